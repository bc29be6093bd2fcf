"""What a worker process does: draws scenes and words their captions. It imports no torch of its own."""

import multiprocessing
import os
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magictailor.world.captions import caption, caption_rng
from magictailor.world.render import render
from magictailor.world.scene import random_scene

SIZE, GRID = 128, 16  # pixels and latents a side, as in `magictailor.world.embedded`
LENGTH = 77
HELD_OUT = 2_000_000_000  # seeds from here on are nobody's: held-out pictures


@dataclass(frozen=True)
class Chunk:
    """Pictures of successive seeds: ``pictures`` uint8 [N, S, S, 3]; ``inside`` uint8 [N, 16, 16], how much of each
    latent is a thing, 255 all; ``tokens`` int16 [N, D, 77], D captions of each.
    """

    pictures: NDArray[np.uint8]
    inside: NDArray[np.uint8]
    tokens: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.pictures)


def drawn(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The scene's picture, uint8 [S, S, 3], and how much of each latent is a thing, uint8 [16, 16]."""
    rendering = render(random_scene(seed), SIZE)
    side = SIZE // GRID
    blocks = rendering.inside.reshape(GRID, side, GRID, side)
    return rendering.image, blocks.mean((1, 3), dtype=np.float32).round().astype(np.uint8)


@cache
def _tokenizer() -> Any:
    from magictailor.world.tokenizer import build_tokenizer

    return build_tokenizer()


def token_ids(texts: list[str]) -> NDArray[np.int16]:
    """Token numbers, [N, 77]."""
    ids = _tokenizer()(texts, padding="max_length", truncation=True, max_length=LENGTH).input_ids
    return np.asarray(ids, np.int16)


def draw(first: int, count: int, captions: int) -> Chunk:
    """The scenes with seeds ``first`` .. ``first + count - 1``, and ``captions`` captions of each."""
    seeds = range(first, first + count)
    pictures, inside = zip(*(drawn(s) for s in seeds), strict=True)
    scenes = {s: random_scene(s) for s in seeds}
    texts = [caption(scenes[s], caption_rng(s, d)) for s in seeds for d in range(captions)]
    return Chunk(np.stack(pictures), np.stack(inside), token_ids(texts).reshape(count, captions, LENGTH))


def read_chunk(path: Path) -> Chunk:
    with np.load(path) as file:
        return Chunk(file["pictures"], file["inside"], file["tokens"])


def write_chunk(path: Path, chunk: Chunk) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, pictures=chunk.pictures, inside=chunk.inside, tokens=chunk.tokens)
    os.replace(temporary, path)


def draw_to(path: Path, first: int, count: int, captions: int) -> Path:
    """``draw`` into a file, written whole or not at all."""
    write_chunk(path, draw(first, count, captions))
    return path


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def begin_worker() -> None:
    """Called first in each worker: training goes before drawing, and a training that was killed leaves no worker."""
    os.nice(5)
    threading.Thread(target=_end_with_parent, daemon=True).start()
