"""Where a scene takes place: plain walls and the protocol's ten places."""

import math

import numpy as np
from PIL import Image, ImageDraw

from magictailor.world.scene import RGB, Random, Scene

SIDE = 128  # backgrounds are drawn at this size and scaled


def _dots(
    draw: ImageDraw.ImageDraw, rng: Random, n: int, top: float, bottom: float, r: float, colors: list[RGB]
) -> None:
    for x, y, u in zip(rng.uniform(0, 1, n), rng.uniform(top, bottom, n), rng.uniform(0.7, 1.3, n), strict=True):
        color = colors[rng.integers(len(colors))]
        draw.ellipse([SIDE * (x - r * u), SIDE * (y - r * u), SIDE * (x + r * u), SIDE * (y + r * u)], fill=color)


def _band(draw: ImageDraw.ImageDraw, top: float, color: RGB) -> None:
    draw.rectangle((0, SIDE * top, SIDE, SIDE), fill=color)


def _beach(draw: ImageDraw.ImageDraw, rng: Random) -> None:
    _band(draw, 0, (150, 212, 246))
    _band(draw, 0.4, (52, 140, 200))
    _band(draw, 0.62, (240, 214, 150))
    draw.ellipse((SIDE * 0.78, SIDE * 0.05, SIDE * 0.94, SIDE * 0.21), fill=(255, 236, 120))


def _jungle(draw: ImageDraw.ImageDraw, rng: Random) -> None:
    _band(draw, 0, (26, 84, 44))
    for _ in range(22):
        x, y, a = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0, math.pi)
        dx, dy = 0.16 * math.cos(a), 0.16 * math.sin(a)
        leaf = [(x - dx, y - dy), (x + dy * 0.4, y - dx * 0.4), (x + dx, y + dy), (x - dy * 0.4, y + dx * 0.4)]
        green = int(rng.integers(90, 170))
        draw.polygon([(SIDE * px, SIDE * py) for px, py in leaf], fill=(30, green, 50))


def _snow(draw: ImageDraw.ImageDraw, rng: Random) -> None:
    _band(draw, 0, (176, 196, 216))
    _band(draw, 0.68, (244, 248, 252))
    _dots(draw, rng, 34, 0, 0.7, 0.018, [(255, 255, 255)])


def _night(draw: ImageDraw.ImageDraw, rng: Random) -> None:
    _band(draw, 0, (16, 20, 58))
    _band(draw, 0.8, (10, 14, 34))
    _dots(draw, rng, 26, 0, 0.7, 0.01, [(250, 246, 210)])
    draw.ellipse((SIDE * 0.06, SIDE * 0.06, SIDE * 0.22, SIDE * 0.22), fill=(252, 246, 200))


def _autumn(draw: ImageDraw.ImageDraw, rng: Random) -> None:
    _band(draw, 0, (246, 224, 176))
    _band(draw, 0.74, (190, 116, 44))
    for x in (0.06, 0.86):
        draw.rectangle((SIDE * x, 0, SIDE * (x + 0.07), SIDE * 0.8), fill=(104, 66, 40))
    _dots(draw, rng, 40, 0, 1, 0.028, [(224, 96, 30), (240, 160, 40), (196, 56, 30)])


def _clouds(draw: ImageDraw.ImageDraw, rng: Random) -> None:
    _band(draw, 0, (104, 172, 240))
    for cx, cy in ((0.16, 0.2), (0.8, 0.14), (0.9, 0.6), (0.08, 0.68)):
        for dx, dy, r in ((-0.1, 0.02, 0.07), (0, -0.02, 0.1), (0.1, 0.02, 0.07)):
            x, y = cx + dx + rng.uniform(-0.02, 0.02), cy + dy
            draw.ellipse([SIDE * (x - r), SIDE * (y - r), SIDE * (x + r), SIDE * (y + r)], fill=(252, 252, 255))


def _flowers(draw: ImageDraw.ImageDraw, rng: Random) -> None:
    _band(draw, 0, (150, 206, 110))
    for x, y in zip(rng.uniform(0, 1, 20), rng.uniform(0, 1, 20), strict=True):
        color = ((240, 70, 120), (250, 250, 250), (250, 200, 40), (160, 90, 210))[rng.integers(4)]
        for a in range(5):
            px, py, r = x + 0.035 * math.cos(1.257 * a), y + 0.035 * math.sin(1.257 * a), 0.026
            draw.ellipse([SIDE * (px - r), SIDE * (py - r), SIDE * (px + r), SIDE * (py + r)], fill=color)
        draw.ellipse(
            [SIDE * (x - 0.018), SIDE * (y - 0.018), SIDE * (x + 0.018), SIDE * (y + 0.018)], fill=(250, 220, 60)
        )


def _eiffel(draw: ImageDraw.ImageDraw, rng: Random) -> None:
    _band(draw, 0, (206, 222, 238))
    _band(draw, 0.84, (130, 170, 100))
    iron, x = (112, 92, 80), 0.83
    outline = (
        (x - 0.16, 0.86),
        (x - 0.05, 0.45),
        (x - 0.012, 0.03),
        (x + 0.012, 0.03),
        (x + 0.05, 0.45),
        (x + 0.16, 0.86),
    )
    draw.polygon([(SIDE * px, SIDE * py) for px, py in outline], fill=iron)
    arch = ((x - 0.085, 0.87), (x, 0.66), (x + 0.085, 0.87))
    draw.polygon([(SIDE * px, SIDE * py) for px, py in arch], fill=(206, 222, 238))
    for y in (0.45, 0.62):
        draw.rectangle((SIDE * (x - 0.11), SIDE * y, SIDE * (x + 0.11), SIDE * (y + 0.025)), fill=iron)


def _water(draw: ImageDraw.ImageDraw, rng: Random) -> None:
    _band(draw, 0, (196, 226, 244))
    _band(draw, 0.5, (34, 120, 190))
    for i in range(4):
        y, start = 0.56 + 0.12 * i, rng.uniform(0, 0.2)
        wave = [(SIDE * x, SIDE * (y + 0.02 * math.sin(25 * (x + start)))) for x in np.linspace(0, 1, 26)]
        draw.line(wave, fill=(170, 220, 250), width=3)


def _fuji(draw: ImageDraw.ImageDraw, rng: Random) -> None:
    _band(draw, 0, (250, 206, 190))
    slope = ((-0.15, 0.8), (0.36, 0.14), (0.64, 0.14), (1.15, 0.8))
    draw.polygon([(SIDE * x, SIDE * y) for x, y in slope], fill=(92, 98, 160))
    cap = (
        (0.24, 0.3),
        (0.36, 0.14),
        (0.64, 0.14),
        (0.76, 0.3),
        (0.66, 0.25),
        (0.58, 0.33),
        (0.5, 0.26),
        (0.42, 0.33),
        (0.34, 0.25),
    )
    draw.polygon([(SIDE * x, SIDE * y) for x, y in cap], fill=(250, 250, 255))
    _band(draw, 0.78, (96, 140, 96))


_PLACES = {
    "beach": _beach, "jungle": _jungle, "snow": _snow, "night": _night, "autumn": _autumn, "clouds": _clouds,
    "flowers": _flowers, "eiffel": _eiffel, "water": _water, "fuji": _fuji,
}  # fmt: skip


def background(scene: Scene, rng: Random) -> Image.Image:
    """The scene's place, without its things, [128, 128] RGB."""
    image = Image.new("RGB", (SIDE, SIDE), scene.wall)
    draw = ImageDraw.Draw(image)
    if scene.context in _PLACES:
        _PLACES[scene.context](draw, rng)
    else:
        _band(draw, 0.76, scene.floor)
    return image
