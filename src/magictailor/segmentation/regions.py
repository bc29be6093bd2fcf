"""From what a model finds to one mask a sample: pure functions of scores, boxes and masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Region:
    """A place where a word was found: how sure (0 .. 1), its box, and its mask [H, W], 0 .. 1."""

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


def suppressed(regions: Sequence[Region], overlap: float = 0.8) -> list[Region]:
    """Best first, without those that overlap a better one by more: non-maximum suppression.

    Call it for each word apart: what another word finds at the same place suppresses nothing.
    """
    kept: list[Region] = []
    for region in sorted(regions, key=lambda r: -r.score):
        if all(intersection_over_union(region.box, other.box) <= overlap for other in kept):
            kept.append(region)
    return kept


def chosen(regions: Sequence[Region], threshold: float, count: int) -> list[Region]:
    """The ``count`` surest regions above the threshold; fewer if there are fewer. Eyes, ears and wheels come in pairs."""
    return [r for r in suppressed(regions) if r.score >= threshold][:count]


def united(regions: Sequence[Region], size: tuple[int, int]) -> Floats:
    """The union of the masks, [height, width] for a (width, height): where any of them is."""
    empty = np.zeros(size[::-1])
    return np.maximum.reduce([empty, *(r.mask for r in regions)])


def without(mask: Floats, parts: Sequence[Floats]) -> Floats:
    """The concept's mask without its components' masks."""
    for part in parts:
        mask = mask * (1 - part)
    return mask


def box_of(mask: Floats) -> Box:
    """The box around what is above one half; empty for an empty mask."""
    rows, columns = np.nonzero(mask > 0.5)
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)
