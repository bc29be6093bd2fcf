"""Sheets of images: generated for fixed captions, and originals above their round trips through the autoencoder."""

from collections.abc import Callable, Sequence
from pathlib import Path

from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from magictailor.backbones import load_backbone
from magictailor.backbones.sampling import SamplingOptions, sample, to_images
from magictailor.common.pictures import grid
from magictailor.world.captions import caption, caption_rng
from magictailor.world.pixels import to_pixels
from magictailor.world.scene import random_scene
from magictailor.world.training.autoencoder import round_trip
from magictailor.world.training.rendering import HELD_OUT

STEPS, GUIDANCE = 50, 4.0


def sample_captions(count: int) -> list[str]:
    """Non-empty captions of held-out scenes, always the same."""
    found: list[str] = []
    seed = HELD_OUT
    while len(found) < count:
        if text := caption(random_scene(seed), caption_rng(seed, 0)):
            found.append(text)
        seed += 1
    return found


def sample_sheet(
    base: Path, captions: Sequence[str], device: str, time_left: Callable[[], bool], batch: int
) -> Image.Image | None:
    """Images that the finished base generates for the captions, eight per row, loaded and sampled as users do.

    Stops early when there is no ``time_left`` before a batch; None without images.
    """
    if not time_left():
        return None
    backbone, images = load_backbone(str(base), device=device), list[Image.Image]()
    for image in sample(backbone, captions, range(len(captions)), SamplingOptions(STEPS, GUIDANCE, batch=batch)):
        images.append(image)
        if len(images) % batch == 0 and not time_left():
            break
    return grid([images[i : i + 8] for i in range(0, len(images), 8)]) if images else None


def round_trip_sheet(autoencoder: AutoencoderKL, images: Tensor) -> Image.Image:
    """Originals uint8 [N, S, S, 3] above their round trips through the autoencoder."""
    return grid([to_images(to_pixels(images)), to_images(round_trip(autoencoder, images))])
