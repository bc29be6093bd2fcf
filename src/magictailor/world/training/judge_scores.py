"""The judge's accuracy on scenes that no training has seen. Every table of a bench shows these scores."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from magictailor.world.colors import median_color
from magictailor.world.judge import Judge
from magictailor.world.judgement import Judgement, judged
from magictailor.world.labels import (
    BODIES,
    CLASSES,
    COMPONENTS,
    CONTEXT_NAMES,
    HEADS,
    TREATMENT_NAMES,
    UNKNOWN,
    VIEW_NAMES,
    Labels,
    from_row,
)
from magictailor.world.pixels import to_bytes, to_pixels

LARGE = 60  # pixels of 128 x 128: smaller components are not scored
Autoencoder = nn.Module  # as in diffusers: ``encode(x).latent_dist.mean``, ``decode(z).sample``
Scores = Iterator[tuple[str, float]]


@torch.no_grad()
def reconstruct(autoencoder: Any, pixels: Tensor) -> Tensor:
    """Pixels [N, 3, S, S] in [-1, 1], encoded and decoded."""
    decoded: Tensor = autoencoder.decode(autoencoder.encode(pixels).latent_dist.mean).sample
    return decoded.float().clamp(-1, 1)


def is_clear(labels: Labels) -> bool:
    """Whether neither a treatment nor the night changes the subjects' appearance."""
    context, treatment, _ = labels.targets[len(HEADS) :]
    return TREATMENT_NAMES[treatment] == "none" and CONTEXT_NAMES[context] != "night"


def _region_scores(image: NDArray[np.uint8], true: NDArray[np.bool_], seen: Any) -> Scores:
    """The overlap of a region with the true one, and the distance between their colours."""
    found = seen.mask if seen is not None else np.zeros_like(true)
    yield "mask overlap", float((found & true).sum() / (found | true).sum())
    if seen is not None:
        yield "color error", float(np.linalg.norm(seen.color - median_color(image, true)))


def _component_scores(labels: Labels, image: NDArray[np.uint8], judgement: Judgement) -> Scores:
    areas = np.bincount(labels.classes.reshape(-1), minlength=len(CLASSES))
    for i, head in enumerate(HEADS):
        if not head.component:
            continue
        number = COMPONENTS[head.category, head.part]
        seen = judgement.components.get((head.category, head.part))
        if areas[number] < LARGE:
            if areas[number] == 0:
                yield "invented", float(seen is not None)
            continue
        yield "kind", float(seen is not None)
        yield from _region_scores(image, labels.classes == number, seen)
        if labels.targets[i] != UNKNOWN:
            yield "variant", float(seen is not None and seen.variant == head.classes[labels.targets[i]])


def _concept_scores(labels: Labels, image: NDArray[np.uint8], judgement: Judgement) -> Scores:
    for category, number in BODIES.items():
        true = labels.classes == number
        if true.sum() >= LARGE:
            yield from _region_scores(image, true, judgement.concepts.get(category))
    for i, head in enumerate(HEADS):
        if not head.component and labels.targets[i] != UNKNOWN:
            concept = judgement.concepts.get(head.category)
            right = concept is not None and concept.variant(head.part) == head.classes[labels.targets[i]]
            yield "identity", float(right)
            yield f"identity: {head.category} {head.part}", float(right)


def _image_scores(labels: Labels, judgement: Judgement) -> Scores:
    context, treatment, view = (int(t) for t in labels.targets[len(HEADS) :])
    yield "context", float(judgement.context == CONTEXT_NAMES[context])
    yield "treatment", float(judgement.treatment == TREATMENT_NAMES[treatment])
    if view != UNKNOWN:
        yield "view", float(judgement.view == VIEW_NAMES[view])
    bodies = [c for c, number in BODIES.items() if (labels.classes == number).sum() >= LARGE]
    if len(bodies) == 1:
        yield "category", float(judgement.category == bodies[0])


def _means(labels: Sequence[Labels], images: NDArray[np.uint8], judgements: Sequence[Judgement]) -> dict[str, float]:
    """Means over the images; for components, over those that are large enough."""
    found: dict[str, list[float]] = defaultdict(list)
    for label, image, judgement in zip(labels, images, judgements, strict=True):
        for scores in (
            _image_scores(label, judgement),
            _concept_scores(label, image, judgement),
            _component_scores(label, image, judgement),
        ):
            for name, value in scores:
                found[name].append(value)
    return {name: round(float(np.mean(values)), 4) for name, values in sorted(found.items())}


def _round_trip(autoencoder: Autoencoder, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images uint8 [N, S, S, 3], encoded and decoded."""
    device = next(autoencoder.parameters()).device
    parts = np.array_split(images, max(1, len(images) // 64))
    pixels = (to_pixels(torch.from_numpy(part).to(device)) for part in parts)
    return np.concatenate([to_bytes(reconstruct(autoencoder, p)).cpu().numpy() for p in pixels])


def judge_scores(
    network: Judge, rows: NDArray[np.uint8], autoencoder: Autoencoder | None = None
) -> dict[str, dict[str, float]]:
    """Scores by condition.

    ``renders``: by day without treatments; ``autoencoder``: the same, encoded and decoded; ``filtered``: treatments and night.
    ``rows``: labelled renders that no training has seen, uint8 [N, ROW].
    """
    labels = [from_row(row) for row in rows]

    def score(clear: bool, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None) -> dict[str, float]:
        chosen = [label for label in labels if is_clear(label) == clear]
        if not chosen:
            return {"pictures": 0.0}
        images = np.stack([label.image for label in chosen])
        images = images if change is None else change(images)
        return {"pictures": float(len(chosen)), **_means(chosen, images, judged(network, list(images)))}

    scores = {"renders": score(True), "filtered": score(False)}
    if autoencoder is not None:
        scores["autoencoder"] = score(True, lambda images: _round_trip(autoencoder, images))
    return scores
