"""What a bench is made of, from a TOML file."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, field_validator

from magictailor.data import Pair, read_pair
from magictailor.errors import InputError
from magictailor.methods import METHODS
from magictailor.methods.studies import STUDIES, filled, study_prompts
from magictailor.recipe import Part, fields_of, part_from
from magictailor.world.pairs import WorldPair, world_pair, write_pair

WORLD = re.compile(r"world:(\d+)(?:\+(\d+))?")


class Spec(Part):
    """A bench, as its TOML says.

    pairs: folders, from the TOML's own; or ``world:1000000000+8``, eight pairs of the world from that seed on.
    prompts: names of studies, or texts with {concept} and {component}.
    seeds: how many pictures of each prompt, from seed 0 on.
    settings: ``key=value`` changes of every method's recipe.
    """

    model: str = "embedded"
    pairs: tuple[str, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(("magictailor",), min_length=1)
    prompts: tuple[str, ...] = Field(("protocol",), min_length=1)
    seeds: int = Field(2, ge=1, le=10_000)
    settings: tuple[str, ...] = ()

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [m for m in methods if m not in METHODS]
        if unknown:
            raise ValueError(f"{unknown[0]} is no method (magictailor recipes lists them)")
        return methods

    @field_validator("prompts")
    @classmethod
    def _filled(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for text in prompts:
            if text not in STUDIES and not set(fields_of(text) or ["?"]) <= {"concept", "component"}:
                raise ValueError(
                    f"{text!r} is no study ({', '.join(STUDIES)}) and no text with {{concept}}, {{component}}"
                )
        return prompts

    def texts(self, words: Sequence[str]) -> list[str]:
        """All prompts with a pair's pseudo-words."""
        asked = [study_prompts(p, words) if p in STUDIES else filled((p,), words) for p in self.prompts]
        return list(dict.fromkeys(text for texts in asked for text in texts))


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


def sources(spec: Spec, beside: Path) -> list[Source]:
    """The spec's pairs; folders are taken from ``beside``. Raises InputError: two of one name, a seed out of range."""
    found = []
    for text in spec.pairs:
        match = WORLD.fullmatch(text)
        if match:
            first, count = int(match[1]), int(match[2] or 1)
            found += [Source(f"world-{seed}", world=world_pair(seed)) for seed in range(first, first + count)]
        else:
            folder = (beside / Path(text).expanduser()).resolve()
            found.append(Source(folder.stem, folder))
    names = [source.name for source in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"pairs: two are called {twice[0]}; rename one folder")
    return found
