"""What can be done to a picture: the protocol's five styles and three materials, and night's darkness.

Each is a function (picture, inside, rng) -> picture; pictures are float [H, W, 3] in 0 .. 1, ``inside`` is
float [H, W], 1 where a thing is.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from magictailor.world.scene import Random

Picture = NDArray[np.floating[Any]]


def _filtered(picture: Picture, *filters: ImageFilter.Filter) -> Picture:
    image = Image.fromarray((picture.clip(0, 1) * 255).astype(np.uint8))
    for f in filters:
        image = image.filter(f)
    return np.asarray(image, np.float32) / 255


def _luma(picture: Picture) -> Picture:
    return picture @ np.array([0.299, 0.587, 0.114], np.float32)


def _edges(picture: Picture) -> Picture:
    """Strength of the outlines, [H, W], 0 .. 1."""
    luma = _luma(picture)
    dx, dy = np.gradient(luma)
    return np.minimum(np.hypot(dx, dy) * 6, 1)


def _grain(shape: tuple[int, ...], rng: Random, cell: int) -> Picture:
    """Smooth noise in -1 .. 1, [H, W], its features ``cell`` pixels wide."""
    height, width = shape[:2]
    coarse = rng.uniform(-1, 1, (max(2, height // cell), max(2, width // cell))).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def night(picture: Picture, inside: Picture, rng: Random) -> Picture:
    return picture * np.array([0.5, 0.54, 0.8], np.float32)


def watercolor(picture: Picture, inside: Picture, rng: Random) -> Picture:
    soft = _filtered(picture, ImageFilter.GaussianBlur(picture.shape[0] / 50))
    wash = 0.12 * _grain(picture.shape, rng, picture.shape[0] // 10)[..., None]
    border = np.minimum(*np.meshgrid(*(np.minimum(np.arange(n), np.arange(n)[::-1]) / n for n in picture.shape[1::-1])))
    paper = (1 - np.clip(border * 9, 0, 1))[..., None]
    pale = 0.42 + 0.6 * soft + wash
    return pale * (1 - paper) + 0.97 * paper


def ukiyoe(picture: Picture, inside: Picture, rng: Random) -> Picture:
    flat = np.round(picture * 3) / 3
    paper = np.array([0.93, 0.85, 0.68], np.float32)
    printed = (0.25 + 0.75 * flat) * paper
    lines = _edges(picture)[..., None]
    return printed * (1 - lines) + np.array([0.12, 0.15, 0.3], np.float32) * lines


def pixel(picture: Picture, inside: Picture, rng: Random) -> Picture:
    side = picture.shape[0]
    image = Image.fromarray((picture * 255).astype(np.uint8)).resize((16, 16), Image.Resampling.BOX)
    coarse = np.asarray(image.resize((side, side), Image.Resampling.NEAREST), np.float32) / 255
    return np.round(coarse * 5) / 5


def gogh(picture: Picture, inside: Picture, rng: Random) -> Picture:
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width] / height
    turn = rng.uniform(0, 6.28)
    wave = np.sin(30 * y + 5 * np.sin(9 * x + turn)), np.sin(30 * x + 5 * np.sin(9 * y + turn))
    rows = np.clip(np.arange(height)[:, None] + 0.025 * height * wave[0], 0, height - 1).astype(int)
    columns = np.clip(np.arange(width)[None] + 0.025 * width * wave[1], 0, width - 1).astype(int)
    strokes = 0.2 * np.sin(38 * y + 9 * np.sin(8 * x + turn) + 12 * x)[..., None]
    return picture[rows, columns] * 0.85 + strokes * np.array([0.9, 0.75, -0.5], np.float32) + 0.06


def comic(picture: Picture, inside: Picture, rng: Random) -> Picture:
    vivid = np.round(np.clip((picture - 0.5) * 1.35 + 0.55, 0, 1) * 4) / 4
    side = picture.shape[0]
    y, x = np.mgrid[0:side, 0:side] * (64 / side)
    dots = ((x + 2 * ((y // 4) % 2)) % 4 < 2) & (y % 4 < 2) & (inside < 0.5)
    inked = np.where(dots[..., None], vivid * 0.72, vivid)
    return inked * (1 - np.minimum(1.6 * _edges(picture), 1)[..., None])


def three_d(picture: Picture, inside: Picture, rng: Random) -> Picture:
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width] / height
    light = (1.25 - 0.85 * np.hypot(x - 0.32, y - 0.28))[..., None]
    down, right = height // 16, width // 10
    shadow = np.pad(inside, ((down, 0), (right, 0)))[:height, :width] * (1 - inside)
    studio = 0.45 * picture + 0.55 * (0.9 - 0.35 * y)[..., None]
    ground = studio * (1 - 0.5 * shadow)[..., None]
    return np.where(inside[..., None] > 0.5, picture * light, ground)


def clay(picture: Picture, inside: Picture, rng: Random) -> Picture:
    terracotta = np.array([0.78, 0.52, 0.38], np.float32)
    bumps = 1 + 0.16 * _grain(picture.shape, rng, max(1, picture.shape[0] // 16))[..., None]
    soft = _filtered(picture, ImageFilter.GaussianBlur(picture.shape[0] / 80))
    return np.where(inside[..., None] > 0.5, (0.6 * soft + 0.4 * terracotta) * bumps, picture)


def plastic(picture: Picture, inside: Picture, rng: Random) -> Picture:
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width] / height
    gloss = np.exp(-(((x + 0.35 * y - 0.5) / 0.05) ** 2)) + 0.7 * np.exp(-(((x + 0.35 * y - 0.66) / 0.02) ** 2))
    vivid = np.clip((picture - 0.5) * 1.2 + 0.55, 0, 1)
    return np.where(inside[..., None] > 0.5, vivid + (1 - vivid) * 0.85 * gloss[..., None], picture)


TREATMENT: dict[str, Callable[[Picture, Picture, Random], Picture]] = {
    "night": night, "watercolor": watercolor, "ukiyoe": ukiyoe, "pixel": pixel, "gogh": gogh, "comic": comic,
    "3d": three_d, "clay": clay, "plastic": plastic,
}  # fmt: skip
