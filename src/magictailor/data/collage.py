"""Pictures made of pictures: several things cut out and put side by side, and a picture made smaller or larger."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 0.7  # of the room that a cut-out thing has
FAR, SHRUNK = 0.6, 0.66  # below this size it is far; how often a picture is made smaller


def _resized(image: Tensor, height: int, width: int) -> Tensor:
    """An image [C, h, w] at another size; averaged where it gets smaller."""
    return F.interpolate(image[None], (height, width), mode="bilinear", align_corners=False, antialias=True)[0]


def _box(mask: Tensor) -> tuple[slice, slice]:
    """Rows and columns that hold all of a mask [1, H, W]."""
    rows, columns = ((mask[0].amax(axis) > mask.amax() / 2).nonzero()[:, 0].tolist() for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def collage(shown: Sequence[tuple[Tensor, Tensor]], draws: Tensor) -> tuple[Tensor, Tensor]:
    """Break-A-Scene's: each thing cut out by its mask, in a column of its own, on a ground of one random colour.

    Args:
        shown: pixels [3, S, S] in [-1, 1] and mask [1, S, S] of each.
        draws: 3 + 4 k numbers in [0, 1): the colour, and for each order, size, x and y.

    Returns:
        Pixels [3, S, S], and a mask for each, [k, 1, S, S].
    """
    side, count = shown[0][0].shape[-1], len(shown)
    ground = (2 * draws[:3] - 1).to(shown[0][0].device)
    canvas = ground[:, None, None].expand(3, side, side).clone()
    masks = canvas.new_zeros(count, 1, side, side)
    orders, sizes, xs, ys = draws[3:].reshape(4, count)
    columns = orders.argsort().argsort().tolist()  # which column each takes
    for number, (pixels, mask) in enumerate(shown):
        rows, across = _box(mask)
        thing, cut = pixels[:, rows, across], mask[:, rows, across]
        room = side // count
        fit = min(side / thing.shape[-2], room / thing.shape[-1]) * (SMALLEST + (1 - SMALLEST) * float(sizes[number]))
        height, width = (max(1, int(s * fit)) for s in thing.shape[-2:])
        top = int(float(ys[number]) * (side - height + 1))
        left = columns[number] * room + int(float(xs[number]) * (room - width + 1))
        place = (slice(None), slice(top, top + height), slice(left, left + width))
        small, hole = _resized(thing, height, width), _resized(cut, height, width)
        canvas[place] = canvas[place] * (1 - hole) + small * hole
        masks[number][place] = hole
    return canvas, masks


@dataclass(frozen=True)
class Scaling:
    """Custom Diffusion's augmentation: the picture ``size`` times as large, at a random place; the prompt says so."""

    size: float
    prefix: str
    x: float  # 0 .. 1, of the room that there is
    y: float

    @classmethod
    def drawn(cls, draws: Tensor) -> "Scaling":
        """From five numbers in [0, 1): smaller (1/3 .. 1) two times of three, else larger (1.2 .. 1.4)."""
        smaller, how, word, x, y = draws.tolist()
        size = 1 / 3 + how * 2 / 3 if smaller < SHRUNK else 1.2 + 0.2 * how
        prefixes = ("a far away ", "very small ") if size < FAR else ("zoomed in ", "close up ") if size > 1 else ("",)
        return cls(size, prefixes[int(word * len(prefixes))], x, y)

    def of(self, pixels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [3, S, S] and masks [k, 1, S, S] at this size; grey and masked out where the picture does not reach."""
        side = pixels.shape[-1]
        new = max(1, round(side * self.size))
        larger, masks_there = _resized(pixels, new, new), torch.stack([_resized(m, new, new) for m in masks])
        left, top = (int(v * (abs(side - new) + 1)) for v in (self.x, self.y))
        if new >= side:
            inside = (..., slice(top, top + side), slice(left, left + side))
            return larger[inside], masks_there[inside]
        canvas, valid = torch.zeros_like(pixels), torch.zeros_like(masks)
        place = (..., slice(top, top + new), slice(left, left + new))
        canvas[place], valid[place] = larger, masks_there
        return canvas, valid
