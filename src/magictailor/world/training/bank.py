"""Pictures drawn ahead, so that training does not wait for drawing; and their latents."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import max_pool2d

from magictailor.world.embedded import SIZE
from magictailor.world.render import render
from magictailor.world.scene import Component, Scene, random_scene

# How much scenery counts, whose snowflakes and leaves nobody can predict, and what things and their surroundings add.
SCENERY, THING = 0.5, 3.0
REACH = 5  # latents, of 16 a side: as far as a tail on the other side would go
# Worn by fewer owners than the first component of a category, and still wrong when those were right everywhere.
LATE = {"tail": 6.0, "hat": 5.0, "glasses": 4.0, "door": 6.0, "label": 4.0}
Progress = Callable[[int, int], None]
Draw = Callable[[int], NDArray[np.uint8]]
CHUNK = 1000


def drawn(seed: int) -> NDArray[np.uint8]:
    """The scene of this seed, uint8 [S, S, 4]: its picture, and where its things are."""
    rendering = render(random_scene(seed), SIZE)
    return np.concatenate([rendering.image, rendering.mask(*range(1, 256))[..., None]], -1)


def _draw(draw: Draw, seeds: range) -> NDArray[np.uint8]:
    return np.stack([draw(s) for s in seeds])


def draw_bank(path: Path, count: int, progress: Progress) -> NDArray[np.uint8]:
    """Pictures of the scenes with seeds 0 .. count - 1, uint8 [count, S, S, 4], see `drawn`."""
    return draw_chunks(path, count, drawn, progress)


def draw_chunks(path: Path, count: int, draw: Draw, progress: Progress) -> NDArray[np.uint8]:
    """``draw`` of the seeds 0 .. count - 1, stacked. What an earlier call left is kept: each chunk is drawn once."""
    path.mkdir(parents=True, exist_ok=True)
    chunks = [range(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]
    missing = [c for c in chunks if not (path / f"{c.start:09d}-{len(c)}.npy").exists()]
    done = count - sum(map(len, missing))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for chunk, pictures in zip(missing, pool.map(partial(_draw, draw), missing), strict=True):
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


def importance(pictures: NDArray[np.uint8], side: int) -> Tensor:
    """How much each latent's error counts, float16 [N, 1, side, side], on average 1 over all pictures.

    Things count most, with all that lies so near that a part of them could be there. A weight that followed the parts
    themselves would teach too many: where a tail may be left or right, an error where there is one would cost more
    than an error where there is none, and the best guess would be two tails.
    """
    count, factor = len(pictures), pictures.shape[1] // side
    blocks = pictures[..., 3].reshape(count, side, factor, side, factor)
    things = torch.from_numpy(blocks.mean((2, 4), dtype=np.float32) / 255)[:, None]
    weights = SCENERY + THING * max_pool2d(things, 2 * REACH + 1, stride=1, padding=REACH)
    return (weights / weights.mean()).half()


def emphasis(scene: Scene) -> float:
    """How often a scene is trained on: more than its share what is learned last, less what is learned anyway."""
    if scene.treatment is not None or len(scene.things) != 1:
        return 0.5
    thing = scene.things[0]
    if isinstance(thing, Component):
        return 1.5
    return 1.0 if scene.focus is not None else max(LATE.get(part.kind, 1.0) for part in thing.components)


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
