"""The paper's automatic metrics: CLIP-T for text; CLIP, DINO and DreamSim on segmented subjects for identity; CLIP-IQA."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from magictailor.evaluate.metrics.cutouts import Cutter
from magictailor.evaluate.metrics.embedders import Clip, Embedder, Floats, embed_images
from magictailor.evaluate.metrics.scorer import Score, ScoredImage, Target

QUALITY = ("Good photo.", "Bad photo.")  # Wang 2023


def with_labels(prompt: str, target: Target) -> str:
    """The prompt with labels for pseudo-words: ``<tower> with <roof>`` becomes ``tower with roof``."""
    for sample, word in zip(target.pair.samples, target.words, strict=True):
        prompt = prompt.replace(word, sample.label)
    return prompt


def subject_similarity(vector: Floats | None, references: Floats) -> float:
    """Mean cosine of a subject's unit vector [D] and those of its photos [K, D]; 0 for a subject that is not found."""
    return 0.0 if vector is None else float((references @ vector).mean())


@dataclass(frozen=True)
class _ClipScorer:
    """Scores whole images by CLIP."""

    clip: Clip

    @property
    def model(self) -> str:
        return self.clip.model

    def prepare(self) -> None:
        self.clip.prepare()


class ClipText(_ClipScorer):
    """CLIP-T: cosine of the image and its prompt, with labels for pseudo-words."""

    higher_is_better: ClassVar[dict[str, bool]] = {"clip-t": True}

    def score(self, target: Target, images: Sequence[ScoredImage]) -> Iterator[Score]:
        vectors = embed_images(self.clip, [scored.image for scored in images], target.cache)
        texts = self.clip.texts([with_labels(scored.prompt, target) for scored in images]).double().numpy()
        for scored, vector, text in zip(images, vectors, texts, strict=True):
            yield Score(scored.prompt, scored.seed, "clip-t", float(vector @ text))


class ClipQuality(_ClipScorer):
    """CLIP-IQA (Wang 2023): the softmax probability of "Good photo." against "Bad photo.", 0 .. 1."""

    higher_is_better: ClassVar[dict[str, bool]] = {"clip-iqa": True}

    def score(self, target: Target, images: Sequence[ScoredImage]) -> Iterator[Score]:
        vectors = embed_images(self.clip, [scored.image for scored in images], target.cache)
        good, bad = (self.clip.scale * vectors @ self.clip.texts(QUALITY).double().numpy().T).T
        for scored, value in zip(images, 1 / (1 + np.exp(bad - good)), strict=True):
            yield Score(scored.prompt, scored.seed, "clip-iqa", float(value))


@dataclass(frozen=True)
class SubjectSimilarity:
    """Similarity of the segmented concept and component to all their photos: mean over photos, then over subjects.

    A subject that is not found has similarity 0; the metric ``... failed`` counts it. ``distance``: report 1 minus the
    similarity, as DreamSim does.
    """

    metric: str
    embedder: Embedder
    cutter: Cutter
    distance: bool = False

    @property
    def model(self) -> str:
        return f"{self.embedder.model}, segmented by {self.cutter.model}"

    @property
    def higher_is_better(self) -> dict[str, bool]:
        return {self.metric: not self.distance, f"{self.metric} failed": False}

    def prepare(self) -> None:
        self.embedder.prepare()
        self.cutter.prepare()

    def score(self, target: Target, images: Sequence[ScoredImage]) -> Iterator[Score]:
        references = [
            embed_images(self.embedder, self.cutter.references(sample), target.cache) for sample in target.pair.samples
        ]
        cutouts = self.cutter.subjects(target, images)
        found = [cutout for subjects in cutouts for cutout in subjects if cutout is not None]
        embedded = iter(embed_images(self.embedder, found, target.cache) if found else ())
        for scored, subjects in zip(images, cutouts, strict=True):
            vectors = [None if cutout is None else next(embedded) for cutout in subjects]
            requested = [i for i, word in enumerate(target.words) if word in scored.prompt]
            if not requested:
                continue
            similarity = float(np.mean([subject_similarity(vectors[i], references[i]) for i in requested]))
            yield Score(scored.prompt, scored.seed, self.metric, 1 - similarity if self.distance else similarity)
            failed = float(np.mean([vectors[i] is None for i in requested]))
            yield Score(scored.prompt, scored.seed, f"{self.metric} failed", failed)
