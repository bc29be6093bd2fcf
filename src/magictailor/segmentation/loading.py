"""Loading segmentation models, and scaling their inputs and outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from magictailor.common.pretrained import load_pretrained
from magictailor.segmentation.regions import Floats

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the colours


def load_model(model_class: Any, source: str) -> Any:
    """``model_class.from_pretrained(source)``, a folder or a hub id.

    Raises:
        InputError: it cannot be loaded; the fix says how to get it.
    """
    get = (
        "name a folder that holds it"
        if Path(source).is_dir()
        else f"on a machine with network run `hf download {source}`, then give that folder as weights"
    )
    fix = f"{get}, or use model grabcut with boxes, which needs no weights"
    return load_pretrained(model_class, source, fix)


def to_square(image: Image.Image, side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """The image stretched to side x side and normalised, [1, 3, side, side]. Needs no torchvision."""
    small = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), np.float32) / 255
    normal = (small - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return torch.from_numpy(normal).permute(2, 0, 1)[None]


def upsample(maps: Tensor, size: tuple[int, int]) -> Floats:
    """Maps [N, h, w] scaled to [N, height, width]; ``size``: (width, height)."""
    out = torch.nn.functional.interpolate(maps[None].float(), size[::-1], mode="bilinear", align_corners=False)
    return out[0].double().numpy()
