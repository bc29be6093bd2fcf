"""What a bench is made of, from a TOML file."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from magictailor.common.errors import InputError
from magictailor.data import Pair, read_pair
from magictailor.generation.studies import STUDIES, filled, study_prompts
from magictailor.methods import METHODS
from magictailor.recipe import Part, fields_of, part_from
from magictailor.segmentation import MODELS
from magictailor.world.pairs import CHALLENGES, WorldPair, world_pair, write_pair

WORLD = re.compile(rf"world:(\d+)(?:\+(\d+))?(?:-({'|'.join(CHALLENGES)}))?")


class Spec(Part):
    """A bench, as its TOML says.

    pairs: folders, from the TOML's own; or ``world:1000000000+8``, eight pairs of the world from that seed on, and
    ``world:1000000000+2-size``, two of one challenge (plain, polluting, unequal, novel, size, category).
    prompts: names of studies, or texts with {concept} and {component}.
    seeds: how many pictures of each prompt, from a seed on that depends on the pair; batch: how many of them are drawn at once, less on a small card.
    settings: ``key=value`` changes of every method's recipe; method_settings: of one method's, by its name.
    metrics: what judges the pictures, see docs/bench.md; weights: folders or hub ids of their models; segmenter: what
    finds concept and component for those that want them cut out (``masks --model``).
    """

    model: str = "embedded"
    pairs: tuple[str, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(("magictailor",), min_length=1)
    prompts: tuple[str, ...] = Field(("protocol",), min_length=1)
    seeds: int = Field(2, ge=1, le=10_000)
    batch: int = Field(8, ge=1, le=1000)
    settings: tuple[str, ...] = ()
    method_settings: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    metrics: tuple[str, ...] = Field(("judge", "quality"), min_length=1)
    weights: dict[str, str] = Field(default_factory=dict)
    segmenter: str | None = None

    @field_validator("methods", "method_settings")
    @classmethod
    def _known(cls, methods: Any) -> Any:
        unknown = [m for m in methods if m not in METHODS]
        if unknown:
            raise ValueError(f"{unknown[0]} is no method (magictailor recipes lists them)")
        return methods

    @field_validator("prompts")
    @classmethod
    def _filled(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for text in prompts:
            if "<" in text:
                raise ValueError(f"{text!r}: write {{concept}} and {{component}} for the pseudo-words")
            if text not in STUDIES and not set(fields_of(text) or ["?"]) <= {"concept", "component"}:
                raise ValueError(
                    f"{text!r} is no study ({', '.join(STUDIES)}) and no text with {{concept}}, {{component}}"
                )
        return prompts

    @field_validator("segmenter")
    @classmethod
    def _finds(cls, segmenter: str | None) -> str | None:
        if segmenter is not None and segmenter not in MODELS:
            raise ValueError(f"{segmenter!r} is no segmenter ({', '.join(MODELS)})")
        return segmenter

    def settings_of(self, method: str) -> list[str]:
        return [*self.settings, *self.method_settings.get(method, ())]

    def texts(self, words: Sequence[str]) -> list[str]:
        """All prompts with a pair's pseudo-words."""
        filled_in = [study_prompts(p, words) if p in STUDIES else filled((p,), words) for p in self.prompts]
        return list(dict.fromkeys(text for texts in filled_in for text in texts))


@dataclass(frozen=True)
class Source:
    """A pair of a bench: a folder, or a pair of the world, whose folder is written on first use."""

    name: str
    folder: Path | None = None
    world: WorldPair | None = None

    def read(self, home: Path) -> Pair:
        """``home``: where a pair of the world is written; two processes may do so at once."""
        if self.world is None:
            assert self.folder is not None
            return read_pair(self.folder)
        place = home / self.name
        if not place.exists():
            try:
                write_pair(self.world, place)
            except (InputError, OSError):
                if not place.exists():
                    raise
        return read_pair(place)


def read_spec(path: Path | str) -> Spec:
    """Raises InputError: no such file, no TOML, or a value that does not fit."""
    path = Path(path)
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; write a spec, docs/bench.md has one") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no TOML ({error}); docs/bench.md has an example") from error
    return part_from(Spec, tree)


def _name_of(path: Path) -> str:
    """A folder's name; of a TOML its own, or the folder's where it is called pair.toml."""
    if path.suffix != ".toml":
        return path.name
    return path.parent.name if path.name == "pair.toml" else path.stem


def sources(spec: Spec, beside: Path) -> list[Source]:
    """The spec's pairs; folders are taken from ``beside``. Raises InputError: two of one name, a seed out of range."""
    found = []
    for text in spec.pairs:
        match = WORLD.fullmatch(text)
        if match:
            first, count = int(match[1]), int(match[2] or 1)
            if count == 0:
                raise InputError(f"pairs: {text}: no pair; write +1 or more, or leave it out")
            end = f"-{match[3]}" if match[3] else ""
            seeds = range(first, first + count)
            found += [Source(f"world-{seed}{end}", world=world_pair(seed, match[3])) for seed in seeds]
        else:
            folder = (beside / Path(text).expanduser()).resolve()
            found.append(Source(_name_of(folder), folder))
    names = [source.name for source in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"pairs: two are called {twice[0]}; rename one")
    return found
