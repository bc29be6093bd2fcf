"""Textures for the filters: papers, strokes, dots and frames, the same for all images of one size.

Each function takes the image's side in pixels and computes its texture once. Lengths in the code are in units of
1/128 of the side; maps are float32 [side, side], in 0 .. 1 unless stated otherwise.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Map = NDArray[np.float32]
Indices = NDArray[np.intp]

_SUPERSAMPLING = 4  # of rectangles


def to_image(pixels: Map) -> Image.Image:
    """Pixels [H, W, 3] or [H, W], 0 .. 1, as an 8-bit image."""
    return Image.fromarray((pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def _grid(side: int) -> tuple[Map, Map]:
    """The x and y of each pixel's centre, 0 .. 128."""
    y, x = (np.mgrid[0:side, 0:side].astype(np.float32) + 0.5) * (128 / side)
    return x, y


def _smooth(side: int, cells: int, seed: int) -> Map:
    """Smooth noise in -1 .. 1 with about ``cells`` features across."""
    coarse = np.random.default_rng(seed).uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)).clip(-1, 1)


def _boxes(side: int, boxes: list[tuple[float, float, float, float]], corner: float = 0) -> Map:
    """Filled boxes (left, top, right, bottom), antialiased."""
    scale = _SUPERSAMPLING * side / 128
    image = Image.new("L", (side * _SUPERSAMPLING, side * _SUPERSAMPLING))
    pen = ImageDraw.Draw(image)
    for box in boxes:
        left, top, right, bottom = (v * scale for v in box)
        pen.rounded_rectangle((left, top, right - 1, bottom - 1), corner * scale, fill=255)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float32) / np.float32(255)


def _border(side: int) -> Map:
    """Distance to the nearest edge of the image, 0 .. 64."""
    x, y = _grid(side)
    return np.minimum(np.minimum(x, 128 - x), np.minimum(y, 128 - y))


@functools.cache
def wobble(side: int) -> Indices:
    """For each pixel the flat index of a pixel up to 2 away, smoothly varying; makes lines waver."""
    rows, columns = np.mgrid[0:side, 0:side]
    unit = side / 128
    dy, dx = 1.5 * unit * _smooth(side, 14, 1), 1.5 * unit * _smooth(side, 14, 2)
    flat = np.rint(rows + dy).clip(0, side - 1) * side + np.rint(columns + dx).clip(0, side - 1)
    return np.asarray(flat, np.intp)


@functools.cache
def wash(side: int) -> Map:
    """The amount of pigment on the paper: large clouds."""
    return (0.5 + 0.42 * _smooth(side, 6, 3) + 0.2 * _smooth(side, 13, 4)).clip(0, 1)


@functools.cache
def paper(side: int) -> Map:
    """The tooth of rough paper, features of 5."""
    return (0.5 + 0.5 * _smooth(side, 26, 5)).clip(0, 1)


@functools.cache
def ragged(side: int) -> tuple[Map, Map]:
    """The paint's coverage of the paper, with an uneven border of about 9, and the dark rim of that border."""
    inner = _border(side) - 7.5 - 4 * _smooth(side, 8, 6) - 1.5 * _smooth(side, 20, 7)
    return (inner / 1.6 + 0.5).clip(0, 1), (1 - np.abs(inner - 1.2) / 1.4).clip(0, 1)


@functools.cache
def gradation(side: int) -> Map:
    """The printer's bokashi: full at the upper edge, gone at a third of the height."""
    y = _grid(side)[1]
    return ((1 - (y - 5) / 34).clip(0, 1) ** 1.3).astype(np.float32)


@functools.cache
def woodgrain(side: int) -> Map:
    """Long horizontal lines of wood, 7 apart."""
    x, y = _grid(side)
    return (0.5 + 0.5 * np.sin(y * 0.9 + 2.2 * np.sin(x / 31) + 1.1 * np.sin(x / 13 + y / 19))).astype(np.float32)


@functools.cache
def print_marks(side: int) -> tuple[tuple[Map, Map], Map, Map]:
    """A print's red seal and the strokes in it, the paper margin, and the thin frame within the margin."""
    seal = _boxes(side, [(109, 10, 120, 36)], 1.5)
    strokes = _boxes(side, [(111.5, 13, 117.5, 15), (113.5, 13, 115.5, 21), (111.5, 18, 117.5, 19.6), (111.5, 23.5, 117.5, 25.3),
                            (111.5, 23.5, 113.3, 32), (115.7, 23.5, 117.5, 32), (111.5, 30.5, 117.5, 32.3)])  # fmt: skip
    return (seal, strokes), 1 - _boxes(side, [(4, 4, 124, 124)]), 1 - _boxes(side, [(5.5, 5.5, 122.5, 122.5)])


@functools.cache
def halftone(side: int) -> Map:
    """Dots in diagonal rows, 5.66 apart, larger towards the lower right."""
    x, y = _grid(side)
    wave = np.cos(math.pi * x / 4) * np.cos(math.pi * y / 4)
    size = 0.35 - 0.35 * (x + y) / 256
    return ((wave - size) * 3).clip(0, 1).astype(np.float32)


@functools.cache
def panel(side: int) -> tuple[Map, Map]:
    """A comic panel's white border, 6 wide, and the black frame of 2 within it."""
    white = 1 - _boxes(side, [(5, 5, 123, 123)])
    return white, _boxes(side, [(5, 5, 123, 123)]) - _boxes(side, [(7.2, 7.2, 120.8, 120.8)])


@functools.cache
def studio(side: int) -> NDArray[np.float32]:
    """A photographer's backdrop, [side, side, 3]: a soft spot of light, darker below and in the corners."""
    x, y = _grid(side)
    spot = np.exp(-(((x - 56) / 75) ** 2) - ((y - 48) / 62) ** 2)[..., None]
    dark, bright = np.array([0.4, 0.43, 0.52], np.float32), np.array([0.96, 0.96, 0.98], np.float32)
    return (dark + (bright - dark) * spot).astype(np.float32)


@functools.cache
def dents(side: int) -> Map:
    """Lumps of clay and four fingerprints, -0.15 .. 0.15."""
    x, y = _grid(side)
    lumps = 0.05 * _smooth(side, 11, 8) + 0.035 * _smooth(side, 22, 9)
    for px, py, turn in ((20, 26, 0.5), (106, 42, -0.6), (24, 98, 2.4), (104, 104, 0.2), (66, 116, 1.0)):
        u = (x - px) * math.cos(turn) + (y - py) * math.sin(turn)
        v = (y - py) * math.cos(turn) - (x - px) * math.sin(turn)
        ridges = np.sin(1.3 * np.hypot(u, v + 11))
        lumps = lumps + 0.06 * ridges * (2.2 - 2.2 * np.hypot(u / 11, v / 14)).clip(0, 1)
    return lumps.astype(np.float32)


@functools.cache
def studs(side: int) -> Map:
    """Round studs of toy bricks in a grid of 16, lit from the upper left, -1 .. 1."""
    x, y = _grid(side)
    u, v = x % 16 - 8, y % 16 - 8
    distance = np.hypot(u, v)
    ring = (1 - np.abs(distance - 4.6) / 1.5).clip(0, 1) * -(u + v) / np.maximum(distance, 1)
    fallen = np.hypot(u - 2.2, v - 2.2)
    shade = (1 - np.abs(fallen - 4) / 3).clip(0, 1) * (distance > 5)
    seam = ((np.minimum(8 - np.abs(u), 8 - np.abs(v)) < 0.6) * 0.35).astype(np.float32)
    light = 0.75 * ring - 0.5 * shade + 0.25 * (distance < 4) - seam
    return np.asarray(light.clip(-1, 1), np.float32)


class Strokes(NamedTuple):
    """Brush strokes that cover the image; each map is [side, side]."""

    center: Indices  # flat index of the pixel in the middle of the topmost stroke
    tone: Map  # -1 .. 1, constant over a stroke: light or dark paint
    relief: Map  # -1 .. 1: the paint's ridges along the stroke


def _whirl(x: Map, y: Map) -> tuple[Map, Map]:
    """Direction of the broad strokes (radians) and their tone: two whirls above, long waves below."""
    angle_x, angle_y = np.ones_like(x), 0.55 * np.cos(x / 15 + y / 30)
    tone = 0.8 * np.sin(y / 5.5 - 1.4 * np.sin(x / 15))
    tone = tone * 0.6
    for px, py, radius, spin in ((25, 30, 25, 1), (104, 26, 23, -1), (112, 84, 18, 1)):
        dx, dy = x - px, y - py
        distance = np.hypot(dx, dy) + 1e-3
        near = np.exp(-((distance / radius) ** 4))
        angle_x = angle_x * (1 - near) + near * -spin * dy / distance
        angle_y = angle_y * (1 - near) + near * spin * dx / distance
        tone = tone * (1 - near) + near * np.cos(distance * 0.55 - 0.5 * np.arctan2(dy, dx))
    return np.asarray(np.arctan2(angle_y, angle_x), np.float32), np.asarray(tone, np.float32)


def _round_form(x: Map, y: Map) -> tuple[Map, Map]:
    """Direction (radians) and tone of the fine strokes: upright, bent outwards like a barrel's staves."""
    bend = (x - 64) / 64 * np.cos((y - 8) * math.pi / 120)
    return (math.pi / 2 - 0.9 * bend).astype(np.float32), np.sin(0.8 * x + 0.5 * y + 2 * np.sin(y / 9)).astype(
        np.float32
    )


@functools.cache
def strokes(side: int, broad: bool) -> Strokes:
    """Broad strokes of about 11 x 3.6 in whirls, or fine ones of 5.6 x 2 that bend round the middle."""
    length, width, pitch, seed = (5.5, 1.8, 2.7, 10) if broad else (2.8, 1.0, 1.5, 11)
    x, y = _grid(side)
    rng = np.random.default_rng(seed)
    steps = np.arange(-pitch, 128 + pitch, pitch)
    cx, cy = (a.ravel() + rng.uniform(-0.4, 0.4, a.size) * pitch for a in np.meshgrid(steps, steps))
    angle, tone = (_whirl if broad else _round_form)(cx.astype(np.float32), cy.astype(np.float32))
    owner = np.full((side, side), -1)
    relief = np.zeros((side, side), np.float32)
    unit, reach = side / 128, length + width
    for i in rng.permutation(cx.size):
        rows, columns = (slice(max(0, int((c - reach) * unit)), int((c + reach) * unit) + 2) for c in (cy[i], cx[i]))
        dx, dy = x[rows, columns] - cx[i], y[rows, columns] - cy[i]
        u = dx * math.cos(angle[i]) + dy * math.sin(angle[i])
        v = dy * math.cos(angle[i]) - dx * math.sin(angle[i])
        hit = (np.abs(u) / length) ** 3 + (np.abs(v) / width) ** 2 < 1
        owner[rows, columns][hit] = i
        relief[rows, columns][hit] = (-v[hit] / width).clip(-1, 1) * 0.8
    flat = (cy * unit).astype(int).clip(0, side - 1) * side + (cx * unit).astype(int).clip(0, side - 1)
    return Strokes(flat[owner].astype(np.intp), tone[owner].clip(-1, 1).astype(np.float32), relief)
