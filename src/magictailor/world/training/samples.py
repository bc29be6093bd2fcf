"""Sheets of images: generated for fixed captions, and originals above their round trips through the autoencoder."""

from collections.abc import Callable, Sequence

import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from magictailor.common.pictures import grid
from magictailor.world.captions import caption, caption_rng
from magictailor.world.embedded import CHANNELS, new_scheduler
from magictailor.world.pixels import to_bytes, to_pixels
from magictailor.world.scene import random_scene
from magictailor.world.training.autoencoder import round_trip
from magictailor.world.training.denoiser import Denoising
from magictailor.world.training.rendering import GRID, HELD_OUT, token_ids


def sample_captions(count: int) -> list[str]:
    """Non-empty captions of held-out scenes, always the same."""
    found: list[str] = []
    seed = HELD_OUT
    while len(found) < count:
        if text := caption(random_scene(seed), caption_rng(seed, 0)):
            found.append(text)
        seed += 1
    return found


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Float [N, 3, H, W] in [-1, 1] as images."""
    return [Image.fromarray(array) for array in to_bytes(pixels).cpu().numpy()]


@torch.no_grad()
def generate(
    task: Denoising,
    autoencoder: AutoencoderKL,
    captions: Sequence[str],
    first: int,
    steps: int = 50,
    guidance: float = 4.0,
) -> list[Image.Image]:
    """One image per caption by DDIM with classifier-free guidance. The noise depends on ``first`` alone."""
    scheduler, device = new_scheduler(), task.device
    scheduler.set_timesteps(steps)
    ids = torch.from_numpy(token_ids([*captions, *[""] * len(captions)])).long().to(device)
    noise = torch.randn(len(captions), CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(first))
    latents = noise.to(device)
    dtype = next(task.unet.parameters()).dtype
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.float32):
        text = task.text_encoder(input_ids=ids).last_hidden_state.to(dtype)
        for time in scheduler.timesteps.tolist():
            times = torch.full((len(ids),), time, device=device)
            both = torch.cat([latents, latents]).to(dtype, memory_format=torch.channels_last)
            conditional, unconditional = (
                task.unet(both, times, encoder_hidden_states=text, return_dict=False)[0].float().chunk(2)
            )
            latents = scheduler.step(
                unconditional + guidance * (conditional - unconditional), time, latents
            ).prev_sample
    return to_images(autoencoder.decode(latents).sample)


def sample_sheet(
    task: Denoising, autoencoder: AutoencoderKL, captions: Sequence[str], time_left: Callable[[], bool], batch: int
) -> Image.Image | None:
    """Generated images, eight per row. Stops early when there is no ``time_left`` before a batch; None without images."""
    images: list[Image.Image] = []
    while len(images) < len(captions) and time_left():
        images += generate(task, autoencoder, captions[len(images) : len(images) + batch], len(images))
    return grid([images[i : i + 8] for i in range(0, len(images), 8)]) if images else None


def round_trip_sheet(autoencoder: AutoencoderKL, images: Tensor) -> Image.Image:
    """Originals uint8 [N, S, S, 3] above their round trips through the autoencoder."""
    return grid([to_images(to_pixels(images)), to_images(round_trip(autoencoder, images))])
