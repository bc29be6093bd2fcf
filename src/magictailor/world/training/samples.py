"""Pictures to look at: generated under fixed captions, and originals over their round trips."""

from collections.abc import Callable, Sequence

import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from magictailor.common.pictures import grid
from magictailor.world.captions import caption, caption_rng
from magictailor.world.embedded import CHANNELS, new_scheduler
from magictailor.world.scene import random_scene
from magictailor.world.training.autoencoder import round_trip
from magictailor.world.training.bank import to_pixels
from magictailor.world.training.denoiser import Denoising
from magictailor.world.training.drawing import GRID, HELD_OUT, token_ids


def sample_captions(count: int) -> list[str]:
    """Captions of held-out scenes, none of them empty; always the same."""
    found: list[str] = []
    seed = HELD_OUT
    while len(found) < count:
        if text := caption(random_scene(seed), caption_rng(seed, 0)):
            found.append(text)
        seed += 1
    return found


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Float [N, 3, H, W] in [-1, 1] as pictures."""
    rounded = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(p) for p in rounded.permute(0, 2, 3, 1).cpu().numpy()]


@torch.no_grad()
def generated(
    task: Denoising,
    autoencoder: AutoencoderKL,
    captions: Sequence[str],
    first: int,
    steps: int = 50,
    guidance: float = 4.0,
) -> list[Image.Image]:
    """A picture under each caption by DDIM with classifier-free guidance; the noise depends on ``first`` alone."""
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
            named, free = task.unet(both, times, encoder_hidden_states=text, return_dict=False)[0].float().chunk(2)
            latents = scheduler.step(free + guidance * (named - free), time, latents).prev_sample
    return to_images(autoencoder.decode(latents).sample)


def sample_sheet(
    task: Denoising, autoencoder: AutoencoderKL, captions: Sequence[str], goes_on: Callable[[], bool], batch: int
) -> Image.Image | None:
    """Generated pictures, eight a row; fewer when ``goes_on`` says so before a batch."""
    images: list[Image.Image] = []
    while len(images) < len(captions) and goes_on():
        images += generated(task, autoencoder, captions[len(images) : len(images) + batch], len(images))
    return grid([images[i : i + 8] for i in range(0, len(images), 8)]) if images else None


def round_trip_sheet(autoencoder: AutoencoderKL, pictures: Tensor) -> Image.Image:
    """Eight originals uint8 [8, S, S, 3] over their round trips."""
    return grid([to_images(to_pixels(pictures)), to_images(round_trip(autoencoder, pictures))])
