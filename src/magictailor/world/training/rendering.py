"""The work of a worker process: it renders scenes and writes their captions. It imports no torch of its own."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magictailor.common.files import write_atomically
from magictailor.world.captions import caption, caption_rng
from magictailor.world.render import render
from magictailor.world.scene import random_scene

SIZE, GRID = 128, 16  # side of a render in pixels and in latents, as in `magictailor.world.embedded`
LENGTH = 77
NICENESS = 5  # of workers: below the training's priority
HELD_OUT = 2_000_000_000  # first seed of the held-out renders, which no training uses


@dataclass(frozen=True)
class Chunk:
    """N renders with successive seeds and D captions of each.

    ``images`` uint8 [N, S, S, 3]; ``inside`` uint8 [N, 16, 16], how much of each latent is covered by a subject, 255 if
    wholly; ``tokens`` int16 [N, D, 77].
    """

    images: NDArray[np.uint8]
    inside: NDArray[np.uint8]
    tokens: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.images)


def concatenate(chunks: list[Chunk]) -> Chunk:
    columns = zip(*((c.images, c.inside, c.tokens) for c in chunks), strict=True)
    return Chunk(*(np.concatenate(column) for column in columns))


def _render(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A row of `Chunk.images` and one of `Chunk.inside`."""
    rendering = render(random_scene(seed), SIZE)
    side = SIZE // GRID
    blocks = rendering.inside.reshape(GRID, side, GRID, side)
    return rendering.image, blocks.mean((1, 3), dtype=np.float32).round().astype(np.uint8)


@cache
def _tokenizer() -> Any:
    from magictailor.world.tokenizer import build_tokenizer

    return build_tokenizer()


def token_ids(texts: list[str]) -> NDArray[np.int16]:
    """Token ids, [N, 77]."""
    ids = _tokenizer()(texts, padding="max_length", truncation=True, max_length=LENGTH).input_ids
    return np.asarray(ids, np.int16)


def render_chunk(first: int, count: int, captions: int) -> Chunk:
    """The scenes with seeds ``first`` .. ``first + count - 1``, and ``captions`` captions of each."""
    seeds = range(first, first + count)
    images, inside = zip(*(_render(s) for s in seeds), strict=True)
    scenes = {s: random_scene(s) for s in seeds}
    texts = [caption(scenes[s], caption_rng(s, d)) for s in seeds for d in range(captions)]
    return Chunk(np.stack(images), np.stack(inside), token_ids(texts).reshape(count, captions, LENGTH))


def read_chunk(path: Path) -> Chunk:
    with np.load(path) as file:
        return Chunk(file["pictures"], file["inside"], file["tokens"])


def write_chunk(path: Path, first: int, count: int, captions: int) -> Path:
    """`render_chunk` into a file, which is written whole or not at all."""
    chunk = render_chunk(first, count, captions)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a path, numpy would add an extension
            np.savez(file, pictures=chunk.images, inside=chunk.inside, tokens=chunk.tokens)

    write_atomically(path, write)
    return path
