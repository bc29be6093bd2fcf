"""What the tests of attachments share: the families by name, generating with attachments, and comparing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import families
import tiny
from magictailor.attachments import AttachmentSpec
from magictailor.attachments.sampling import load_attachments, sample_attached
from magictailor.backbones import Backbone
from magictailor.backbones.families import backbone_class
from magictailor.backbones.sampling import SamplingOptions, sample

OPTIONS = SamplingOptions(4, 2.0, batch=2)
PROMPT = "a photo of person"
WITHOUT = "a photo"  # for emphasis
BUILDERS: dict[str, Callable[[], Any]] = {
    **tiny.FAMILIES,
    **{n: lambda n=n: families.pipeline(n) for n in families.BUILDERS},
}
SIDE = (56, 40)  # of the pictures that are given


def built(name: str) -> Any:
    pipeline = BUILDERS[name]()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def wrapped(name: str, pipeline: Any) -> Backbone:
    backbone: Backbone = backbone_class(type(pipeline).__name__)(name, pipeline)
    if name in families.BUILDERS:
        backbone.use_size(families.SIZE)
    return backbone


def plain(backbone: Backbone) -> bytes:
    (image,) = sample(backbone, [PROMPT], [3], OPTIONS)
    return image.tobytes()


def attached(
    backbone: Backbone, *specs: AttachmentSpec, seeds: tuple[int, ...] = (3,), emphasis: float = 0.0
) -> list[np.ndarray]:
    loaded, options = load_attachments(backbone, specs, OPTIONS.steps), replace(OPTIONS, emphasis=emphasis)
    images = sample_attached(backbone, [PROMPT] * len(seeds), seeds, options, loaded, [WITHOUT] * len(seeds))
    return [np.asarray(image, int) for image in images]


def differ(left: np.ndarray, right: np.ndarray) -> int:
    return int(np.abs(left - right).max())


def pictures(folder: Path) -> dict[str, Path]:
    """A picture and a region of it."""
    random = np.random.default_rng(0)
    mask = np.zeros(SIDE[::-1], np.uint8)
    mask[10:30, 20:40] = 255
    pixels = random.integers(0, 256, (*SIDE[::-1], 3), np.uint8)
    for name, image in (("picture", pixels), ("region", mask)):
        Image.fromarray(image).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in ("picture", "region")}


def ready_map(backbone: Backbone, folder: Path, side: int | None = None) -> Path:
    pixels = np.random.default_rng(1).integers(0, 256, (side or backbone.size, side or backbone.size, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "map.png")
    return folder / "map.png"
