"""Concept and component cut out of a picture, as the paper's identity metrics want them.

What it leaves open is decided here: white around the thing, cropped to a square around it; what is not found is counted, and
scores as nothing alike (`similarity`).
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.data import Sample
from magictailor.evaluate.metrics.contract import Drawn, Subject
from magictailor.segmentation import Segmenter
from magictailor.segmentation.regions import Floats, chosen, united, without
from magictailor.segmentation.writing import THRESHOLD, regions_of

FILL = 255
SMALLEST = 16  # pixels: what is smaller is not found


def cut_out(image: Image.Image, mask: Floats) -> Image.Image | None:
    """The thing on white, in a square around it; None where the mask [H, W], 0 .. 1, is as good as empty."""
    inside = mask > 0.5
    if inside.sum() < SMALLEST:
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


def masks_in(image: Image.Image, labels: Sequence[str], segmenter: Segmenter) -> list[Floats]:
    """The concept's mask without its components', then each component's, [H, W]; zeros for what is not found."""
    found = segmenter.find(image, Path("picture.png"), labels)
    unions = [united(chosen(found.get(w, []), THRESHOLD, regions_of(w, {})), image.size) for w in labels]
    return [without(unions[0], unions[1:]), *unions[1:]]


class Cutter:
    """Cuts things out of pictures, once for all metrics that want them; ``model``: what segments."""

    def __init__(self, model: str, make: Callable[[], Segmenter]) -> None:
        self.model, self._make = model, make
        self._last: tuple[Sequence[Drawn], list[list[Image.Image | None]]] = ((), [])

    @cached_property
    def _segmenter(self) -> Segmenter:
        return self._make()

    def prepare(self) -> None:
        """Load it. Raises InputError where its weights are not there."""
        assert self._segmenter

    def references(self, sample: Sample) -> list[Image.Image]:
        """Of a sample's references, by their own masks.

        Raises:
            InputError: all masks are nearly empty.
        """
        cut = [cut_out(r.image, np.asarray(r.mask, np.float64) / 255) for r in sample.references]
        found = [image for image in cut if image is not None]
        if not found:
            raise InputError(f"{sample.label}: no reference's mask has {SMALLEST} pixels; draw larger masks")
        return found

    def sides(self, subject: Subject, pictures: Sequence[Drawn]) -> list[list[Image.Image | None]]:
        """Of each picture its concept and components; None for what is not found."""
        if self._last[0] is not pictures:
            labels = [sample.label for sample in subject.pair.samples]
            images = [drawn.image.convert("RGB") for drawn in pictures]
            cut = [[cut_out(i, mask) for mask in masks_in(i, labels, self._segmenter)] for i in images]
            self._last = (pictures, cut)
        return self._last[1]
