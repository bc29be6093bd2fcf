"""The paper's automatic metrics: text by CLIP, identity by CLIP, DINO and DreamSim on segmented things, quality by CLIP-IQA."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from magictailor.evaluate.metrics.contract import Drawn, Figure, Subject
from magictailor.evaluate.metrics.cutouts import Cutter
from magictailor.evaluate.metrics.embedders import Clip, Embedder, Floats, embedded

QUALITY = ("Good photo.", "Bad photo.")  # Wang 2023


def with_labels(prompt: str, subject: Subject) -> str:
    """The prompt as a stranger reads it: ``<tower> with <roof>`` is ``tower with roof``."""
    for sample, word in zip(subject.pair.samples, subject.words, strict=True):
        prompt = prompt.replace(word, sample.label)
    return prompt


def side_similarity(found: Floats | None, references: Floats) -> float:
    """Mean cosine of one thing's vector [D] with its references' [K, D]; 0 for what was not found."""
    return 0.0 if found is None else float((references @ found).mean())


@dataclass(frozen=True)
class _ByClip:
    """What CLIP judges on whole pictures."""

    clip: Clip

    @property
    def model(self) -> str:
        return self.clip.model

    def prepare(self) -> None:
        self.clip.prepare()


class ClipText(_ByClip):
    """CLIP-T: cosine of the picture and its prompt, pseudo-words as labels."""

    higher: ClassVar[dict[str, bool]] = {"clip-t": True}

    def score(self, subject: Subject, pictures: Sequence[Drawn]) -> Iterator[Figure]:
        images = embedded(self.clip, [drawn.image for drawn in pictures], subject.cache)
        texts = self.clip.texts([with_labels(drawn.prompt, subject) for drawn in pictures]).double().numpy()
        for drawn, image, text in zip(pictures, images, texts, strict=True):
            yield Figure(drawn.prompt, drawn.seed, "clip-t", float(image @ text))


class ClipQuality(_ByClip):
    """CLIP-IQA (Wang 2023): how much more a picture is like "Good photo." than like "Bad photo.", 0 .. 1."""

    higher: ClassVar[dict[str, bool]] = {"clip-iqa": True}

    def score(self, subject: Subject, pictures: Sequence[Drawn]) -> Iterator[Figure]:
        images = embedded(self.clip, [drawn.image for drawn in pictures], subject.cache)
        good, bad = (self.clip.scale * images @ self.clip.texts(QUALITY).double().numpy().T).T
        for drawn, value in zip(pictures, 1 / (1 + np.exp(bad - good)), strict=True):
            yield Figure(drawn.prompt, drawn.seed, "clip-iqa", float(value))


@dataclass(frozen=True)
class IdentityOf:
    """How alike the segmented concept and component are to those of every reference: mean over references, then over both sides.

    ``distance``: given as 1 minus that, as DreamSim is. A side that is not found counts as nothing alike, and is counted.
    """

    name: str
    embedder: Embedder
    cutter: Cutter
    distance: bool = False

    @property
    def model(self) -> str:
        return f"{self.embedder.model}, segmented by {self.cutter.model}"

    @property
    def higher(self) -> dict[str, bool]:
        return {self.name: not self.distance, f"{self.name} failed": False}

    def prepare(self) -> None:
        self.embedder.prepare()
        self.cutter.prepare()

    def _references(self, subject: Subject) -> list[Floats]:
        """Of each sample, its references' vectors [K, D]; their own masks say where the thing is."""
        return [
            embedded(self.embedder, self.cutter.references(sample), subject.cache) for sample in subject.pair.samples
        ]

    def score(self, subject: Subject, pictures: Sequence[Drawn]) -> Iterator[Figure]:
        references, cut = self._references(subject), self.cutter.sides(subject, pictures)
        there = [side for sides in cut for side in sides if side is not None]
        vectors = iter(embedded(self.embedder, there, subject.cache) if there else ())
        for drawn, sides in zip(pictures, cut, strict=True):
            found = [None if side is None else next(vectors) for side in sides]
            asked = [i for i, word in enumerate(subject.words) if word in drawn.prompt]
            if not asked:
                continue
            alike = float(np.mean([side_similarity(found[i], references[i]) for i in asked]))
            yield Figure(drawn.prompt, drawn.seed, self.name, 1 - alike if self.distance else alike)
            failed = float(np.mean([found[i] is None for i in asked]))
            yield Figure(drawn.prompt, drawn.seed, f"{self.name} failed", failed)
