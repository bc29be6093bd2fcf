"""Concept and component cut out of an image, as the paper's identity metrics need them.

Choices that the paper leaves open: the cutout is white around the subject and cropped to a square; a subject that is not
found has similarity 0 and is counted (`similarity`).
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.data import Sample
from magictailor.evaluate.metrics.scorer import ScoredImage, Target
from magictailor.segmentation import Segmenter
from magictailor.segmentation.masks import THRESHOLD, regions_of
from magictailor.segmentation.regions import Floats, best_regions, subtract, union

FILL = 255
MIN_PIXELS = 16  # a smaller subject counts as not found


def cut_out(image: Image.Image, mask: Floats) -> Image.Image | None:
    """The subject on white, in a square around it; None if the mask [H, W], 0 .. 1, has less than `MIN_PIXELS`."""
    inside = mask > 0.5
    if inside.sum() < MIN_PIXELS:
        return None
    pixels = np.asarray(image.convert("RGB"), np.float32)
    on_white = pixels * mask[..., None] + FILL * (1 - mask[..., None])
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    crop = Image.fromarray(on_white.round().astype(np.uint8)).crop(box)
    side = max(crop.size)
    square = Image.new("RGB", (side, side), (FILL, FILL, FILL))
    square.paste(crop, ((side - crop.width) // 2, (side - crop.height) // 2))
    return square


def find_masks(image: Image.Image, labels: Sequence[str], segmenter: Segmenter) -> list[Floats]:
    """The concept's mask minus its components', then each component's, [H, W]; zeros for a subject that is not found."""
    found = segmenter.find(image, Path("picture.png"), labels)
    unions = [union(best_regions(found.get(w, []), THRESHOLD, regions_of(w, {})), image.size) for w in labels]
    return [subtract(unions[0], unions[1:]), *unions[1:]]


class Cutter:
    """Cuts subjects out of images, once for all scorers that need them. ``model``: names the segmenter."""

    def __init__(self, model: str, load: Callable[[], Segmenter]) -> None:
        self.model, self._load = model, load
        self._last: tuple[Sequence[ScoredImage], list[list[Image.Image | None]]] = ((), [])

    @cached_property
    def _segmenter(self) -> Segmenter:
        return self._load()

    def prepare(self) -> None:
        """Load the segmenter. Raises InputError if its weights are not on this machine."""
        assert self._segmenter

    def references(self, sample: Sample) -> list[Image.Image]:
        """Cutouts of a sample's photos, by their own masks.

        Raises:
            InputError: all masks are nearly empty.
        """
        cut = [cut_out(r.image, np.asarray(r.mask, np.float64) / 255) for r in sample.references]
        found = [image for image in cut if image is not None]
        if not found:
            raise InputError(f"{sample.label}: no photo's mask has {MIN_PIXELS} pixels", "draw larger masks")
        return found

    def subjects(self, target: Target, images: Sequence[ScoredImage]) -> list[list[Image.Image | None]]:
        """Cutouts of the concept and the components in each image; None for a subject that is not found."""
        if self._last[0] is not images:
            labels = [sample.label for sample in target.pair.samples]
            whole = [scored.image.convert("RGB") for scored in images]
            cut = [[cut_out(image, mask) for mask in find_masks(image, labels, self._segmenter)] for image in whole]
            self._last = (images, cut)
        return self._last[1]
