"""A bench's specification, from a TOML file."""

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from magictailor.common.errors import InputError
from magictailor.common.opening import read_text
from magictailor.data import Pair, read_pair
from magictailor.generation.reference_only import REFERENCE_ONLY
from magictailor.generation.studies import STUDIES, filled, study_prompts
from magictailor.methods import METHODS
from magictailor.recipe import ConfigModel, config_from
from magictailor.recipe.config import fields_of
from magictailor.segmentation import MODELS
from magictailor.world.pairs import CHALLENGES, WorldPair, world_pair, write_pair

WORLD = re.compile(rf"world:(\d+)(?:\+(\d+))?(?:-({'|'.join(CHALLENGES)}))?")
MOST_PAIRS = 2000  # of one entry


class Spec(ConfigModel):
    """A bench, with the keys of its TOML file.

    pairs: folders, relative to the TOML file; or ``world:1000000000+8``, eight pairs of the world from that seed on; or
    ``world:1000000000+2-size``, two pairs of one challenge (plain, polluting, unequal, novel, size, category).
    methods: of `magictailor recipes`, or ``reference-only``, which trains nothing.
    prompts: names of studies, or texts with {concept} and {component}.
    seeds: number of images of each prompt; the first seed depends on the pair.
    batch: number of images generated at once.
    settings: ``key=value`` changes of every method's recipe.
    method_settings: ``key=value`` changes of one method's recipe, by method.
    metrics: the scorers of the images, see docs/bench.md.
    weights: folders or hub ids of their models.
    segmenter: the model that cuts out concept and component for the scorers that need it (``masks --model``).
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
    def _check_methods(cls, methods: Any) -> Any:
        unknown = [m for m in methods if m not in (*METHODS, REFERENCE_ONLY)]
        if unknown:
            raise ValueError(f"{unknown[0]} is no method (`magictailor recipes` lists them)")
        return methods

    @field_validator("prompts")
    @classmethod
    def _check_prompts(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
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
    def _check_segmenter(cls, segmenter: str | None) -> str | None:
        if segmenter is not None and segmenter not in MODELS:
            raise ValueError(f"{segmenter!r} is no segmenter ({', '.join(MODELS)})")
        return segmenter

    def settings_of(self, method: str) -> list[str]:
        """The changes of one method's recipe."""
        return [*self.settings, *self.method_settings.get(method, ())]

    def texts(self, words: Sequence[str]) -> list[str]:
        """All prompts, filled with a pair's pseudo-words."""
        groups = [study_prompts(p, words) if p in STUDIES else filled((p,), words) for p in self.prompts]
        return list(dict.fromkeys(text for group in groups for text in group))


@dataclass(frozen=True)
class Source:
    """A pair of a bench: a folder, or a pair of the world, which is written to a folder on first use."""

    name: str
    folder: Path | None = None
    world: WorldPair | None = None

    def read(self, world_folder: Path) -> Pair:
        """Read the pair; one of the world is in ``world_folder``. Two processes may write it at once."""
        if self.world is None:
            assert self.folder is not None
            return read_pair(self.folder)
        folder = world_folder / self.name
        if not folder.exists():
            try:
                write_pair(self.world, folder)
            except (InputError, OSError):
                if not folder.exists():
                    raise
        return read_pair(folder)


def read_spec(path: Path | str) -> Spec:
    """Raises InputError: no such file, invalid TOML, an unknown key or an invalid value."""
    path = Path(path)
    try:
        tree = tomllib.loads(read_text(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "write a spec; docs/bench.md has an example") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no TOML ({error})", "see the example in docs/bench.md") from error
    return config_from(Spec, json.loads(json.dumps(tree, default=str)))  # a date is a text


def _name_of(path: Path) -> str:
    """The folder's name; for a TOML file its stem, or its folder's name if it is called pair.toml."""
    if path.suffix != ".toml":
        return path.name
    return path.parent.name if path.name == "pair.toml" else path.stem


def sources(spec: Spec, base: Path) -> list[Source]:
    """The spec's pairs; folders are relative to ``base``. Raises InputError: equal names, or a seed out of range."""
    found = []
    for text in spec.pairs:
        match = WORLD.fullmatch(text)
        if match:
            first, count = int(match[1]), int(match[2] or 1)
            if not 1 <= count <= MOST_PAIRS:
                found_pairs = f"{count} pairs" if count else "no pair"
                raise InputError(f"pairs: {text}: {found_pairs}", f"write +1 .. +{MOST_PAIRS}, or leave it out")
            suffix = f"-{match[3]}" if match[3] else ""
            seeds = range(first, first + count)
            found += [Source(f"world-{seed}{suffix}", world=world_pair(seed, match[3])) for seed in seeds]
        else:
            try:
                folder = (base / Path(text).expanduser()).resolve()
            except (OSError, RuntimeError, ValueError) as error:  # ~nobody, NUL
                raise InputError(f"pairs: {text!r}: no path ({error})", "write a folder's path") from error
            found.append(Source(_name_of(folder), folder))
    names = [source.name for source in found]
    if duplicates := [name for name in names if names.count(name) > 1]:
        raise InputError(f"pairs: two are called {duplicates[0]}", "rename one")
    return found
