"""From regions that a model finds to one mask per image: pure functions of scores, boxes and masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Region:
    """An area that matches a word: its score (0 .. 1), its box, and its mask [H, W], 0 .. 1."""

    score: float
    box: Box
    mask: Floats


def intersection_over_union(first: Box, second: Box) -> float:
    """Of two boxes, 0 .. 1; 0 where both are empty."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(width, 0) * max(height, 0)
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (first, second))
    return common / (areas - common) if areas > common else 0.0


def non_maximum_suppression(regions: Sequence[Region], overlap: float = 0.8) -> list[Region]:
    """Regions by falling score, without those that overlap a better one by more than ``overlap``.

    Call it for each word by itself: regions of different words must not suppress each other.
    """
    kept: list[Region] = []
    for region in sorted(regions, key=lambda r: -r.score):
        if all(intersection_over_union(region.box, other.box) <= overlap for other in kept):
            kept.append(region)
    return kept


def best_regions(regions: Sequence[Region], threshold: float, count: int) -> list[Region]:
    """At most ``count`` regions with the highest scores above the threshold. Eyes, ears and wheels need two."""
    return [r for r in non_maximum_suppression(regions) if r.score >= threshold][:count]


def union(regions: Sequence[Region], size: tuple[int, int]) -> Floats:
    """The union of the regions' masks, [height, width]; ``size``: (width, height)."""
    empty = np.zeros(size[::-1])
    return np.maximum.reduce([empty, *(r.mask for r in regions)])


def subtract(mask: Floats, others: Sequence[Floats]) -> Floats:
    """The mask without the others, for instance the concept's without its components'."""
    for other in others:
        mask = mask * (1 - other)
    return mask


def bounding_box(mask: Floats) -> Box:
    """The box around all values above one half; empty for an empty mask."""
    rows, columns = np.nonzero(mask > 0.5)
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)
