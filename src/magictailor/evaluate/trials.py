"""Trials: one method on one pair from one training seed. Their files, and the units of work that they consist of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from magictailor.evaluate.anchor_names import ANCHORS, RENDERED
from magictailor.evaluate.anchors import is_rendered
from magictailor.evaluate.records import Key, first_seed
from magictailor.evaluate.sources import Source
from magictailor.evaluate.spec import Spec
from magictailor.generation.images import image_name

Kind = Literal["train", "generate", "score"]
KINDS: tuple[Kind, ...] = ("train", "generate", "score")


@dataclass(frozen=True)
class Trial:
    """Paths are relative to the bench's folder. ``trained_as``: an earlier method with the same training, whose run it uses."""

    source: Source
    method: str
    training_seed: int = 0
    trained_as: str | None = None

    @property
    def name(self) -> str:
        """``PAIR/METHOD``, and ``PAIR/METHOD@1`` from training seed 1."""
        return f"{self.source.name}/{self.method}{f'@{self.training_seed}' if self.training_seed else ''}"

    @property
    def training(self) -> "Trial":
        """The trial whose run this one uses: itself, if no other has it."""
        return self if self.trained_as is None else replace(self, method=self.trained_as, trained_as=None)

    @property
    def run(self) -> Path:
        return Path("runs", self.training.name)

    @property
    def results(self) -> Path:
        return Path("results", f"{self.name}.parquet")

    @property
    def cost(self) -> Path:
        return Path("costs", f"{self.name}.json")

    @property
    def images(self) -> Path:
        return Path("images", self.name)

    @property
    def features(self) -> Path:
        return Path("features", self.name)

    def image(self, prompt: str, seed: int) -> Path:
        return self.images / image_name(prompt, seed)

    def seeds(self, spec: Spec) -> range:
        """The seeds of each prompt's images."""
        first = first_seed(self.source.name)
        return range(first, first + (1 if self.method in RENDERED else spec.seeds))

    def keys(self, spec: Spec, words: Sequence[str]) -> set[Key]:
        """The keys of all images of the spec; of an anchor, of those whose true image can be rendered."""
        texts = spec.texts(words)
        if self.method in ANCHORS:
            texts = [text for text in texts if is_rendered(text, words)]
        return {(text, seed) for text in texts for seed in self.seeds(spec)}


@dataclass(frozen=True)
class Unit:
    """A step of a trial that one worker takes. Its results depend on nothing but the spec and its key."""

    kind: Kind
    trial: Trial
    number: int  # of the trial: units of earlier trials go first, so that whole pairs can be compared early

    @property
    def key(self) -> str:
        return f"{self.kind} {self.trial.name}"

    @property
    def needs(self) -> str | None:
        """The key of the unit that has to be done before."""
        at = KINDS.index(self.kind)
        if at:
            return f"{KINDS[at - 1]} {self.trial.name}"
        return f"train {self.trial.training.name}" if self.trial.trained_as else None

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files and folders that it reads and writes."""
        trial = self.trial
        own = {"train": (trial.run,), "generate": (trial.run,), "score": (trial.results, trial.features)}
        drawn = (Path("pairs", trial.source.name),) if trial.source.seed is not None else ()
        return (*drawn, trial.cost, trial.images, *own[self.kind])


def make_trials(spec: Spec, sources: Sequence[Source]) -> Iterator[Trial]:
    """All trials, pair after pair; of each pair the anchors first, if it has a ground truth. Further training seeds last."""
    for source in sources:
        if spec.anchors and source.seed is not None:
            yield from (Trial(source, anchor) for anchor in ANCHORS)
        yield from (Trial(source, method) for method in spec.methods)
    for seed in range(1, spec.training_seeds):
        yield from (Trial(source, method, seed) for source in sources[: spec.repeated_pairs] for method in spec.methods)


def make_units(trials: Sequence[Trial]) -> list[Unit]:
    """The units of these trials."""
    return [Unit(kind, trial, number) for number, trial in enumerate(trials) for kind in KINDS]
