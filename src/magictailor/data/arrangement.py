"""Images made of images: several subjects cut out and put side by side, and an image made smaller or larger."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from magictailor.common.tensors import to_device

SMALLEST = 0.7  # of the room that a cut-out has
FAR, SHRUNK = 0.6, 0.66  # below this size it is far; how often an image is made smaller
COLLAGE_DRAWS = (3, 4)  # random numbers for the background, and for each subject


def _resized(image: Tensor, height: int, width: int) -> Tensor:
    """An image [C, h, w] at another size; averaged where it gets smaller."""
    return F.interpolate(image[None], (height, width), mode="bilinear", align_corners=False, antialias=True)[0]


def _box(mask: Tensor) -> tuple[slice, slice]:
    """Rows and columns that hold all of a mask [1, H, W]."""
    rows, columns = ((mask[0].amax(axis) > mask.amax() / 2).nonzero()[:, 0].tolist() for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def collage(subjects: Sequence[tuple[Tensor, Tensor]], draws: Tensor) -> tuple[Tensor, Tensor]:
    """Break-A-Scene's: each subject cut out by its mask, in a column of its own, on a background of one random colour.

    Args:
        subjects: pixels [3, S, S] in [-1, 1] and mask [1, S, S] of each.
        draws: 3 + 4 k numbers in [0, 1): the colour, and for each subject order, size, x and y.

    Returns:
        Pixels [3, S, S], and a mask for each subject, [k, S, S].
    """
    side, count = subjects[0][0].shape[-1], len(subjects)
    background = to_device(2 * draws[:3] - 1, subjects[0][0].device)
    canvas = background[:, None, None].expand(3, side, side).clone()
    masks = canvas.new_zeros(count, side, side)
    orders, sizes, xs, ys = draws[3:].reshape(4, count)
    columns = orders.argsort().argsort().tolist()  # which column each takes
    for number, (pixels, mask) in enumerate(subjects):
        rows, across = _box(mask)
        subject, cutout = pixels[:, rows, across], mask[:, rows, across]
        room = side // count
        fit = min(side / subject.shape[-2], room / subject.shape[-1])
        fit *= SMALLEST + (1 - SMALLEST) * float(sizes[number])
        height, width = (max(1, int(s * fit)) for s in subject.shape[-2:])
        top = int(float(ys[number]) * (side - height + 1))
        left = columns[number] * room + int(float(xs[number]) * (room - width + 1))
        region = (..., slice(top, top + height), slice(left, left + width))
        small, opacity = _resized(subject, height, width), _resized(cutout, height, width)
        canvas[region] = canvas[region] * (1 - opacity) + small * opacity
        masks[number][region] = opacity[0]
    return canvas, masks


@dataclass(frozen=True)
class Scaling:
    """Custom Diffusion's augmentation: the image ``size`` times as large, at a random position; the prompt says so."""

    size: float
    prefix: str  # of the prompt
    x: float  # 0 .. 1, of the room there is
    y: float

    @classmethod
    def drawn(cls, draws: Tensor) -> "Scaling":
        """From five numbers in [0, 1): smaller (1/3 .. 1) two times of three, else larger (1.2 .. 1.4)."""
        smaller, amount, word, x, y = draws.tolist()
        size = 1 / 3 + amount * 2 / 3 if smaller < SHRUNK else 1.2 + 0.2 * amount
        prefixes = ("a far away ", "very small ") if size < FAR else ("zoomed in ", "close up ") if size > 1 else ("",)
        return cls(size, prefixes[int(word * len(prefixes))], x, y)

    def of(self, pixels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [3, S, S] and masks [k, S, S] at this size; grey and masked out where the image does not reach."""
        side = pixels.shape[-1]
        new = max(1, round(side * self.size))
        scaled, scaled_masks = _resized(pixels, new, new), _resized(masks, new, new)
        left, top = (int(v * (abs(side - new) + 1)) for v in (self.x, self.y))
        if new >= side:
            inside = (..., slice(top, top + side), slice(left, left + side))
            return scaled[inside], scaled_masks[inside]
        canvas, valid = torch.zeros_like(pixels), torch.zeros_like(masks)
        region = (..., slice(top, top + new), slice(left, left + new))
        canvas[region], valid[region] = scaled, scaled_masks
        return canvas, valid
