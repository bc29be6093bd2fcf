"""Pictures drawn ahead, so that training does not wait for drawing; and their latents."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from magictailor.world.embedded import SIZE
from magictailor.world.render import render
from magictailor.world.scene import random_scene

Progress = Callable[[int, int], None]
CHUNK = 1000


def drawn(seed: int) -> NDArray[np.uint8]:
    """The scene of this seed, uint8 [S, S, 4]: its picture, and as alpha where its things are."""
    rendering = render(random_scene(seed), SIZE)
    things = rendering.mask(*range(1, 256))
    return np.concatenate([rendering.image, things[..., None]], -1)


def _draw(seeds: range) -> NDArray[np.uint8]:
    return np.stack([drawn(s) for s in seeds])


def draw_bank(path: Path, count: int, progress: Progress) -> NDArray[np.uint8]:
    """Pictures of the scenes with seeds 0 .. count - 1, uint8 [count, S, S, 4], see `drawn`.

    What an earlier call left is kept: each chunk is drawn once.
    """
    path.mkdir(parents=True, exist_ok=True)
    chunks = [range(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]
    missing = [c for c in chunks if not (path / f"{c.start:09d}-{len(c)}.npy").exists()]
    done = count - sum(map(len, missing))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for chunk, pictures in zip(missing, pool.map(_draw, missing), strict=True):
            target = path / f"{chunk.start:09d}-{len(chunk)}.npy"
            temporary = target.with_suffix(".tmp")
            with temporary.open("wb") as file:
                np.save(file, pictures)
            os.replace(temporary, target)
            done += len(chunk)
            progress(done, count)
    return np.concatenate([np.load(path / f"{c.start:09d}-{len(c)}.npy") for c in chunks])


def to_pixels(pictures: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 [N, H, W, 3 or more] to float [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(pictures[..., :3]).to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def coverage(pictures: NDArray[np.uint8], side: int) -> Tensor:
    """The share of each latent's pixels that things cover, from the alpha channel: float16 [N, 1, side, side]."""
    count, factor = len(pictures), pictures.shape[1] // side
    alpha = pictures[..., 3].reshape(count, side, factor, side, factor)
    return torch.from_numpy(alpha.mean((2, 4), dtype=np.float32) / 255).half()[:, None]


@torch.no_grad()
def encode_bank(
    autoencoder: AutoencoderKL, pictures: NDArray[np.uint8], device: torch.device, progress: Progress
) -> Tensor:
    """Posterior means of all pictures, float16 [N, 4, S / 4, S / 4], on the CPU, not yet scaled."""
    latents = []
    for start in range(0, len(pictures), CHUNK):
        for part in np.array_split(pictures[start : start + CHUNK], 8):
            if len(part):
                latents.append(autoencoder.encode(to_pixels(part, device)).latent_dist.mean.half().cpu())
        progress(min(start + CHUNK, len(pictures)), len(pictures))
    return torch.cat(latents)
