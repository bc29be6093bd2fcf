"""Weights of segmentation models, by their real classes, from a folder, the cache or the hub."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from magictailor.common.errors import InputError
from magictailor.segmentation.regions import Floats


def loaded(kind: Any, where: str, what: str) -> Any:
    """``kind.from_pretrained(where)``.

    Raises:
        InputError: not there and not to be had; the line says how to get it.
    """
    try:
        return kind.from_pretrained(where)
    except Exception as error:  # no network, no such id, another model's files: the libraries raise nearly anything
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{what}: cannot be loaded from {where} ({reason}); on a machine with network run `hf download {where}`, "
            "then name that folder with --weights, or use --model grabcut with boxes, which needs no weights"
        ) from error


def square(image: Image.Image, side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """The image stretched to side x side and normalised, [1, 3, side, side]: without torchvision."""
    small = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), np.float32) / 255
    normal = (small - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return torch.from_numpy(normal).permute(2, 0, 1)[None]


def enlarged(maps: Tensor, size: tuple[int, int]) -> Floats:
    """Maps [N, h, w] to [N, height, width] for a (width, height)."""
    out = torch.nn.functional.interpolate(maps[None].float(), size[::-1], mode="bilinear", align_corners=False)
    return out[0].double().numpy()
