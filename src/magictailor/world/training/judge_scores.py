"""How good the judge is, on scenes that no training has seen: the scores that stand under every table."""

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

LARGE = 60  # pixels of 128 x 128: of smaller components nothing is asked
Coder = nn.Module  # an autoencoder of diffusers: ``encode(x).latent_dist.mean``, ``decode(z).sample``
Scores = Iterator[tuple[str, float]]


@torch.no_grad()
def through(coder: Any, pixels: Tensor) -> Tensor:
    """Pixels [N, 3, S, S] in [-1, 1] as the base's autoencoder gives them back."""
    decoded: Tensor = coder.decode(coder.encode(pixels).latent_dist.mean).sample
    return decoded.float().clamp(-1, 1)


def clear(labels: Labels) -> bool:
    """Whether no treatment and no night hides what subjects look like."""
    context, treatment, _ = labels.targets[len(HEADS) :]
    return TREATMENT_NAMES[treatment] == "none" and CONTEXT_NAMES[context] != "night"


def _region_scores(image: NDArray[np.uint8], there: NDArray[np.bool_], seen: Any) -> Scores:
    """Overlap of a region with the true one, and how far its colour is from the colour there."""
    found = seen.mask if seen is not None else np.zeros_like(there)
    yield "mask overlap", float((found & there).sum() / (found | there).sum())
    if seen is not None:
        yield "color error", float(np.linalg.norm(seen.color - median_color(image, there)))


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
        there = labels.classes == number
        if there.sum() >= LARGE:
            yield from _region_scores(image, there, judgement.concepts.get(category))
    for i, head in enumerate(HEADS):
        if not head.component and labels.targets[i] != UNKNOWN:
            concept = judgement.concepts.get(head.category)
            right = concept is not None and concept.variant(head.part) == head.classes[labels.targets[i]]
            yield "identity", float(right)
            yield f"identity: {head.category} {head.part}", float(right)


def _picture_scores(labels: Labels, judgement: Judgement) -> Scores:
    context, treatment, view = (int(t) for t in labels.targets[len(HEADS) :])
    yield "context", float(judgement.context == CONTEXT_NAMES[context])
    yield "treatment", float(judgement.treatment == TREATMENT_NAMES[treatment])
    if view != UNKNOWN:
        yield "view", float(judgement.view == VIEW_NAMES[view])
    bodies = [c for c, number in BODIES.items() if (labels.classes == number).sum() >= LARGE]
    if len(bodies) == 1:
        yield "category", float(judgement.category == bodies[0])


def _means(labels: Sequence[Labels], images: NDArray[np.uint8], judgements: Sequence[Judgement]) -> dict[str, float]:
    """Over the given pictures; of components, over those that cover enough."""
    found: dict[str, list[float]] = defaultdict(list)
    for label, image, judgement in zip(labels, images, judgements, strict=True):
        for scores in (
            _picture_scores(label, judgement),
            _concept_scores(label, image, judgement),
            _component_scores(label, image, judgement),
        ):
            for name, value in scores:
                found[name].append(value)
    return {name: round(float(np.mean(values)), 4) for name, values in sorted(found.items())}


def _coded(coder: Coder, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures through the autoencoder, uint8 [N, S, S, 3]."""
    device, out = next(coder.parameters()).device, []
    for part in np.array_split(images, max(1, len(images) // 64)):
        pixels = torch.from_numpy(part).to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        out.append(((through(coder, pixels) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(out)


def judge_scores(network: Judge, rows: NDArray[np.uint8], coder: Coder | None = None) -> dict[str, dict[str, float]]:
    """``renders``: by day without treatments; ``autoencoder``: the same through the base's; ``filtered``: treatments and night.

    ``rows``: labelled pictures that no training has seen, uint8 [N, ROW].
    """
    labels = [from_row(row) for row in rows]

    def scored(
        wanted: bool, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    ) -> dict[str, float]:
        chosen = [label for label in labels if clear(label) == wanted]
        if not chosen:
            return {"pictures": 0.0}
        images = np.stack([label.image for label in chosen])
        images = images if change is None else change(images)
        return {"pictures": float(len(chosen)), **_means(chosen, images, judged(network, list(images)))}

    scores = {"renders": scored(True), "filtered": scored(False)}
    if coder is not None:
        scores["autoencoder"] = scored(True, lambda images: _coded(coder, images))
    return scores
