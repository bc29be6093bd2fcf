"""A bench's specification, from a TOML file."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from magictailor.common.errors import InputError
from magictailor.common.opening import read_text
from magictailor.common.records import parsed_toml
from magictailor.evaluate.anchor_names import ANCHORS
from magictailor.generation.studies import STUDIES, filled, study_prompts
from magictailor.methods import METHODS, REFERENCE_ONLY
from magictailor.recipe import ConfigModel, config_from
from magictailor.recipe.config import fields_of
from magictailor.segmentation import MODELS

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}")  # of a variant
RESERVED = frozenset({*METHODS, REFERENCE_ONLY, *ANCHORS})


class Endpoint(ConfigModel):
    """A difference that is named before it is seen: ``method`` minus ``against`` in ``metric``.

    ``margin``: the question is whether the method is no worse than that, and not whether it is better.
    """

    method: str
    against: str
    metric: str
    margin: float | None = Field(None, gt=0)

    def __str__(self) -> str:
        margin = "" if self.margin is None else f", no worse by {self.margin:g}"
        return f"{self.metric} of {self.method} against {self.against}{margin}"

    def same(self, other: "Endpoint") -> bool:
        """Whether both ask the same question."""
        return str(self) == str(other)


class Spec(ConfigModel):
    """A bench, with the keys of its TOML file.

    pairs: folders, relative to the TOML file; or ``world:1000000000+8``, eight pairs of the world from that seed on; or
    ``world:1000000000+2-size``, two pairs of one challenge (plain, polluting, unequal, novel, size, category).
    methods: of `magictailor recipes`, or ``reference-only``, which trains nothing.
    prompts: names of studies, or texts with {concept} and {component}.
    seeds: number of images of each prompt; the first seed depends on the pair.
    training_seeds: number of trainings of each pair and method; the images of each are from the same seeds.
    repeated_pairs: the first pairs, which have all training seeds; the others have one. None: all.
    primary: the one difference that the bench is made to show. It is fixed by the first run in a folder.
    contrasts: further differences named beforehand, for the report; with a ``margin``, that one is no worse than that.
    anchors: also score floor and ceiling on pairs of the world, see `magictailor.evaluate.anchors`.
    batch: number of images generated at once.
    settings: ``key=value`` changes of every method's recipe.
    method_settings: ``key=value`` changes of one method's recipe, by method.
    variants: methods of this bench only: a name, a method that has one, and ``key=value`` changes of its recipe.
    metrics: the scorers of the images, see docs/bench.md.
    weights: folders or hub ids of their models.
    segmenter: the model that cuts out concept and component for the scorers that need it (``masks --model``).
    """

    model: str = "embedded"
    pairs: tuple[str, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(("magictailor",), min_length=1)
    prompts: tuple[str, ...] = Field(("protocol",), min_length=1)
    seeds: int = Field(2, ge=1, le=10_000, strict=True)
    training_seeds: int = Field(1, ge=1, le=100, strict=True)
    repeated_pairs: int | None = Field(None, ge=0, strict=True)
    batch: int = Field(8, ge=1, le=1000, strict=True)
    primary: Endpoint | None = None
    contrasts: tuple[Endpoint, ...] = ()
    anchors: bool = Field(True, strict=True)
    settings: tuple[str, ...] = ()
    method_settings: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    variants: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    metrics: tuple[str, ...] = Field(("judge", "quality"), min_length=1)
    weights: dict[str, str] = Field(default_factory=dict)
    segmenter: str | None = None

    @field_validator("pairs", "methods", "prompts", "metrics")
    @classmethod
    def _check_repeated(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        name, times = Counter(names).most_common(1)[0]
        if times > 1:
            raise ValueError(f"{name!r} is listed {times} times; list it once")
        return names

    @field_validator("variants")
    @classmethod
    def _check_variants(cls, variants: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, parts in variants.items():
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r}: begin a name with a small letter or digit; dots and dashes may follow")
            if name in RESERVED:
                raise ValueError(f"{name} has a meaning already; choose another name")
            if not parts or parts[0] not in METHODS:
                raise ValueError(f'{name}: write a method and its changes, ["magictailor", "train.0.rank=16"]')
        return variants

    @model_validator(mode="after")
    def _check_methods(self) -> Self:
        known = (*METHODS, REFERENCE_ONLY, *self.variants)
        if unknown := [m for m in (*self.methods, *self.method_settings) if m not in known]:
            raise ValueError(
                f"{unknown[0]} is not a method (`magictailor recipes` lists them) or a variant of this bench"
            )
        if unused := [m for m in self.method_settings if m not in self.methods]:
            raise ValueError(
                f"method_settings: {unused[0]} is not among the methods; add it, or leave its settings out"
            )
        return self

    @field_validator("prompts")
    @classmethod
    def _check_prompts(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for text in prompts:
            if "<" in text:
                raise ValueError(f"{text!r}: write {{concept}} and {{component}} for the pseudo-words")
            if text not in STUDIES and not set(fields_of(text) or ["?"]) <= {"concept", "component"}:
                raise ValueError(
                    f"{text!r} is not a study ({', '.join(STUDIES)}) or a text with {{concept}}, {{component}}"
                )
        return prompts

    @field_validator("segmenter")
    @classmethod
    def _check_segmenter(cls, segmenter: str | None) -> str | None:
        if segmenter is not None and segmenter not in MODELS:
            raise ValueError(f"{segmenter!r} is not a segmenter ({', '.join(MODELS)})")
        return segmenter

    @model_validator(mode="after")
    def _check_endpoints(self) -> Self:
        for endpoint in (*filter(None, [self.primary]), *self.contrasts):
            for method in (endpoint.method, endpoint.against):
                if method not in self.methods:
                    raise ValueError(f"{endpoint}: {method} is not among the methods")
            if endpoint.method == endpoint.against:
                raise ValueError(f"{endpoint}: name two methods")
        return self

    def settings_of(self, method: str, training_seed: int = 0) -> list[str]:
        """The changes of one method's recipe."""
        seed = [f"seed={training_seed}"] if training_seed else []
        return [*self.settings, *self.variants.get(method, ())[1:], *self.method_settings.get(method, ()), *seed]

    def method_of(self, name: str) -> str:
        """The method that a variant changes; a method itself."""
        return self.variants[name][0] if name in self.variants else name

    def texts(self, words: Sequence[str]) -> list[str]:
        """All prompts, filled with a pair's pseudo-words."""
        groups = [study_prompts(p, words) if p in STUDIES else filled((p,), words) for p in self.prompts]
        return list(dict.fromkeys(text for group in groups for text in group))


def read_spec(path: Path | str) -> Spec:
    """Raises InputError: no such file, invalid TOML, an unknown key or an invalid value."""
    path = Path(path)
    try:
        tree = json.loads(json.dumps(parsed_toml(read_text(path)), default=str))  # a date is a text
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "write a spec; docs/bench.md has an example") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"{path}: {reason}", "see the example in docs/bench.md") from error
    return config_from(Spec, tree, str(path))
