"""Reference images as tensors, and their augmentation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from magictailor.common.errors import InputError
from magictailor.common.tensors import to_device
from magictailor.data.images import fit_square
from magictailor.data.pairs import Pair
from magictailor.recipe import Augment

LUMA = (0.299, 0.587, 0.114)
VISIBLE = 0.1  # the largest value of a mask that the loss can still use


@dataclass(frozen=True)
class TrainingImage:
    """A reference image of sample number ``sample``: pixels [3, S, S] in [-1, 1], mask [1, S, S] in 0 .. 1."""

    sample: int
    word: str
    pixels: Tensor
    mask: Tensor

    def on(self, device: torch.device) -> "TrainingImage":
        return replace(self, pixels=to_device(self.pixels, device), mask=to_device(self.mask, device))


def training_images(pair: Pair, size: int, grids: Sequence[tuple[int, int]]) -> list[TrainingImage]:
    """All reference images, samples in order, fitted to squares of ``size`` pixels.

    Raises:
        InputError: a mask that is empty on one of the ``grids`` (height, width) on which losses read it.
    """
    out = []
    for number, sample in enumerate(pair.samples):
        for reference in sample.references:
            pixels, mask = square(reference.image, reference.mask, size)
            for height, width in grids:
                if shrink(mask[None], (height, width)).amax() < VISIBLE:
                    raise InputError(
                        f"{reference.path}: the mask is empty at the model's {height} x {width} resolution",
                        f"crop the photo closer to the {sample.label}, or paint a larger mask",
                    )
            out.append(TrainingImage(number, sample.word, pixels, mask))
    return out


def square(image: Image.Image, mask: Image.Image, size: int) -> tuple[Tensor, Tensor]:
    """An image and its mask as squares around the mask: [3, size, size] in [-1, 1], [1, size, size] in 0 .. 1."""
    pixels, weights = fit_square(image, mask, size)
    return _pixels(pixels), torch.from_numpy(weights)[None]


def unmasked_image(image: Image.Image, size: int) -> TrainingImage:
    """An image of no sample, with a mask of all of it."""
    return TrainingImage(-1, "", *square(image, Image.new("L", image.size, 255), size))


def first_references(pair: Pair, count: int | None) -> Pair:
    """The pair with the first ``count`` images of each sample; None: all."""
    return replace(pair, samples=tuple(replace(s, references=s.references[:count]) for s in pair.samples))


def shrink(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Masks [N, n, H, W] averaged by area to [N, n, *grid]."""
    return F.interpolate(masks, grid, mode="area")


def jittered(pixels: Tensor, factors: Sequence[float]) -> Tensor:
    """Brightness, contrast and saturation times these factors; pixels [3, H, W] in [-1, 1]."""
    brightness, contrast, saturation = factors
    image = ((pixels + 1) / 2 * brightness).clamp(0, 1)
    weights = pixels.new_tensor(LUMA)[:, None, None]
    mean = (image * weights).sum(0).mean()
    image = (mean + (image - mean) * contrast).clamp(0, 1)
    gray = (image * weights).sum(0, keepdim=True)
    return (gray + (image - gray) * saturation).clamp(0, 1) * 2 - 1


def augmented(image: TrainingImage, config: Augment, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels and mask after jitter and flip; ``draws``: four numbers in [0, 1)."""
    pixels, mask = image.pixels, image.mask
    if config.jitter > 0:
        brightness, *others = (1 + config.jitter * (2 * draws[:3] - 1)).tolist()
        pixels = jittered(pixels, (brightness, *((1.0, 1.0) if config.only_brightness else others)))
    if draws[3] < config.flip:
        pixels, mask = pixels.flip(-1), mask.flip(-1)
    return pixels, mask


def _pixels(image: NDArray[np.uint8]) -> Tensor:
    """[H, W, 3], 0 .. 255, to [3, H, W] in [-1, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1
