"""Backdrops: a plain wall and the protocol's ten contexts.

The character covers the middle, so each context is recognisable by its upper corners, its sides and the horizon.
"""

import colorsys
import io
from collections.abc import Callable, Sequence

import numpy as np
import resvg_py
from numpy.typing import NDArray
from PIL import Image

from magictailor.world import scenery

Random = np.random.Generator


def _choice(rng: Random, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _coin(rng: Random) -> bool:
    return bool(rng.random() < 0.5)


def _pale(rng: Random) -> str:
    """A soft pale colour of any hue."""
    color = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.08, 0.34), rng.uniform(0.84, 0.98))
    return "#" + "".join(f"{round(255 * c):02x}" for c in color)


def _plain(rng: Random) -> str:
    wall = scenery.band(0, _pale(rng))
    return wall if rng.random() < 0.4 else wall + scenery.band(rng.uniform(88, 108), _pale(rng))


def _beach(rng: Random) -> str:
    horizon, shore = rng.uniform(56, 62), rng.uniform(84, 90)
    sun = scenery.circle(18, 20, 15, "#d8edc0") + scenery.circle(18, 20, 11, "#ffdc4e")
    sea = scenery.band(horizon, "#2b9fd0") + scenery.waves(horizon + 12, rng.uniform(0, 32), 32, 2, "#4fbddd")
    sand = scenery.waves(shore, rng.uniform(0, 42), 42, 3, "#f4fbff") + scenery.waves(
        shore + 4, rng.uniform(0, 42), 42, 3, "#f3d797"
    )
    dunes = scenery.ellipse(24, 127, 46, 10, "#e7c27a") + scenery.ellipse(108, 130, 50, 10, "#e7c27a")
    props = scenery.umbrella(rng.uniform(14, 18), 116, False) + scenery.palm(rng.uniform(116, 121), 118, True)
    scene = sun + sea + sand + dunes + props
    return scenery.sky("#6cc4f2", "#d4f1fb") + (scenery.mirrored(scene) if _coin(rng) else scene)


def _jungle(rng: Random) -> str:
    back = scenery.sky("#b5e08c", "#4c9a55") + scenery.hill(48, 36, 50, "#4f9f56") + scenery.hill(78, 66, 76, "#2b7542")
    x = rng.uniform(26, 36)
    liana = scenery.line(f"M{x:.1f} -2Q{x + 22:.1f} 30 {x + 44:.1f} -2", "#2c6b34", 2.4)
    sides = _undergrowth(rng) + scenery.mirrored(_undergrowth(rng))
    return back + liana + sides


_GREENS = (("#2f8f49", "#277c3f"), ("#46ad58", "#3a9a4d"), ("#6cc863", "#5ab556"))
_SHADY_LEAVES = ((-6, 16, 46, 84), (-8, 52, 46, 76), (-8, 88, 46, 66), (12, -8, 40, 150), (44, -8, 28, 168))
_SUNNY_LEAVES = (
    (28, -8, 30, 184), (-4, -10, 46, 138), (-8, 38, 36, 98), (-8, 74, 38, 54), (-8, 104, 36, 86), (18, 136, 44, 6),
    (2, 136, 52, 32),
)  # fmt: skip


def _undergrowth(rng: Random) -> str:
    """A trunk, dark leaves behind it and bright ones before it along the left side of the frame, one red blossom."""
    leaves = scenery.rect(rng.uniform(3, 9), 0, 9, 128, "#6a4c33")
    for x, y, reach, turn in _SHADY_LEAVES:
        leaves += scenery.blade(x, y, reach, turn + rng.uniform(-8, 8), "#1f6b3c")
    for i, (x, y, reach, turn) in enumerate(_SUNNY_LEAVES):
        leaves += scenery.blade(x, y, reach, turn + rng.uniform(-8, 8), *_GREENS[i % 3])
    return leaves + scenery.flower(rng.uniform(7, 13), rng.uniform(58, 92), 7, "#ee4b5a", "#ffd84d", rng.uniform(0, 60))


def _snow(rng: Random) -> str:
    firs = "".join(
        scenery.fir(x + rng.uniform(-2, 2), y, height * rng.uniform(0.93, 1.07), "#2f6d63", "#ffffff")
        for x, y, height in ((31, 88, 44), (97, 88, 44), (12, 104, 80), (116, 104, 80))
    )
    ground = scenery.hill(88, 80, 90, "#dfeaf6") + firs + scenery.hill(108, 98, 106, "#ffffff")
    flakes = scenery.circles(
        (
            (12 + 26 * column + rng.uniform(-9, 9), 10 + 19 * row + rng.uniform(-6, 6), rng.uniform(1.6, 2.9))
            for row in range(5)
            for column in range(5)
        ),
        "#ffffff",
    )
    return scenery.sky("#86b2d8", "#cfe2f3") + ground + flakes


def _night(rng: Random) -> str:
    moon_x, moon_y = rng.uniform(18, 24), rng.uniform(19, 24)
    glow = scenery.circle(moon_x, moon_y, 22, "#2b3a78") + scenery.circle(moon_x, moon_y, 17.5, "#3d4d92")
    moon = scenery.circle(moon_x, moon_y, 13, "#fdf1b4") + "".join(
        scenery.circle(moon_x + dx, moon_y + dy, r, "#ead88e")
        for dx, dy, r in ((-4, -3, 2.6), (4, 3, 3.2), (-3, 6, 1.8))
    )
    stars = "".join(
        scenery.star(x + rng.uniform(-4, 4), y + rng.uniform(-4, 4), rng.uniform(2.6, 4.4), "#fff4bf")
        for x, y in (
            (48, 9),
            (70, 18),
            (92, 8),
            (114, 16),
            (104, 36),
            (118, 56),
            (10, 52),
            (26, 68),
            (88, 46),
            (44, 36),
        )
    )
    ground = scenery.hill(88, 80, 90, "#141c4a")
    for x, height in ((108, 44), (122, 56), (8, 50)):
        ground += scenery.fir(x + rng.uniform(-3, 3), 104, height, "#0e1638")
    scene = glow + moon + stars + ground + scenery.hill(106, 100, 104, "#0a0f2b")
    return scenery.sky("#0d1440", "#2a3a80") + (scenery.mirrored(scene) if _coin(rng) else scene)


_AUTUMN = (("#d9542b", "#f07b3a"), ("#e58a1f", "#f7b23e"), ("#c23a2c", "#e2603f"))


def _autumn(rng: Random) -> str:
    first = int(rng.integers(3))
    trees = ""
    for i, (x, y, height) in enumerate(((36, 92, 58), (94, 92, 58), (10, 112, 108), (119, 112, 108))):
        crown, light = _AUTUMN[(first + i) % 3]
        trees += scenery.leafy_tree(x + rng.uniform(-3, 3), y, height, crown, light)
    ground = scenery.hill(92, 84, 92, "#e0a84e") + trees + scenery.hill(114, 106, 114, "#c9752f")
    leaves = "".join(
        scenery.fallen_leaf(
            x + rng.uniform(-5, 5),
            y + rng.uniform(-5, 5),
            4.2,
            rng.uniform(0, 360),
            _choice(rng, ("#d23c22", "#f0921e", "#b5381f")),
        )
        for x, y in (
            (46, 14),
            (64, 8),
            (84, 16),
            (32, 74),
            (98, 78),
            (12, 118),
            (30, 122),
            (98, 121),
            (116, 118),
            (64, 34),
        )
    )
    return scenery.sky("#fbe6b4", "#fff6dc") + ground + leaves


def _clouds(rng: Random) -> str:
    positions = [(20, 34, 1.05), (104, 30, 1.1), (62, 16, 0.7), (10, 76, 0.95), (118, 74, 0.95)]
    keep = [p for i, p in enumerate(positions) if i < 2 or rng.random() < 0.8]
    clouds = "".join(
        scenery.cloud(x + rng.uniform(-5, 5), y + rng.uniform(-4, 4), s * rng.uniform(0.92, 1.08)) for x, y, s in keep
    )
    bank = "".join(scenery.cloud(x + rng.uniform(-3, 3), 130, 1.5) for x in (66, 10, 118))
    return scenery.sky("#3f97ec", "#9fd2fb") + clouds + bank


_PETALS = (
    ("#ef4f86", "#ffd84d"),
    ("#ffffff", "#f7b52c"),
    ("#f7c52b", "#b5651d"),
    ("#9b62d6", "#ffe27a"),
    ("#f0553f", "#ffd84d"),
)


def _flowers(rng: Random) -> str:
    first = int(rng.integers(5))
    meadow = scenery.hill(60, 52, 62, "#8fcf6a") + scenery.hill(88, 80, 86, "#6dba55")
    stalks: list[tuple[float, float]] = []
    blossoms = ""
    for i, (x, y, r) in enumerate(
        ((64, 26, 10), (34, 34, 11), (94, 36, 11), (13, 20, 13), (115, 22, 13), (12, 56, 12.5), (116, 58, 12.5),
         (30, 74, 10.5), (98, 76, 10.5), (11, 94, 13), (117, 96, 13), (34, 112, 10), (94, 112, 10))
    ):  # fmt: skip
        px, py = x + rng.uniform(-3, 3), y + rng.uniform(-4, 4)
        petals, heart = _PETALS[(first + i) % 5]
        stalks.append((px, py))
        blossoms += scenery.flower(px, py, r, petals, heart, rng.uniform(0, 60))
    return scenery.sky("#bfe6f7", "#e9f8e4") + meadow + scenery.stalks(stalks, "#3f9445") + blossoms


def _eiffel(rng: Random) -> str:
    x = rng.uniform(102, 106)
    city = "".join(
        scenery.rect(left, 88 - up, 15, 30, tone)
        for left, up, tone in ((0, 13, "#e8dccb"), (14, 18, "#dccdb8"), (28, 11, "#e8dccb"))
    )
    roofs = "".join(scenery.rect(left, 85 - up, 15, 4, "#8d96a8") for left, up in ((0, 13), (14, 18), (28, 11)))
    windows = "".join(
        scenery.rect(left, top, 3, 4, "#a99c8a")
        for left in (3, 9, 17, 23, 31, 37)
        for top in (80, 88)
        if left > 13 or top > 79
    )
    trees = "".join(
        scenery.circle(left, 100, 8, tone)
        for left, tone in ((4, "#5fa35c"), (18, "#4d9150"), (34, "#5fa35c"), (82, "#5fa35c"), (126, "#4d9150"))
    )
    lawn = scenery.band(102, "#86c46a") + scenery.band(118, "#74b35b")
    clouds = scenery.cloud(24 + rng.uniform(-6, 6), 32 + rng.uniform(-6, 6), 0.85, "#ffffff", "#f6e3e6")
    tower = scenery.eiffel_tower(x, 110, 104, _choice(rng, ("#6f5a4e", "#77604f", "#665a58")), "#f3e2dc")
    scene = clouds + city + roofs + windows + trees + lawn + tower
    return scenery.sky("#8fc6ee", "#fdeadf") + (scenery.mirrored(scene) if _coin(rng) else scene)


def _water(rng: Random) -> str:
    horizon = rng.uniform(38, 44)
    sun = scenery.cloud(20 + rng.uniform(-4, 4), 26, 0.8) + scenery.cloud(108 + rng.uniform(-4, 4), 22, 0.7)
    rows = "".join(
        scenery.waves(horizon + 3 + dy, rng.uniform(0, 40), length, height, "#d8f3ff", horizon + 12 + dy)
        + scenery.waves(horizon + 5.2 + dy, shift, length, height, fill)
        for dy, length, height, fill, shift in _wave_rows(rng)
    )
    rings = "".join(
        f'<ellipse cx="64" cy="110" rx="{rx}" ry="{ry}" fill="none" stroke="#d8f3ff" stroke-width="2.4" stroke-opacity="{opacity}"/>'
        for rx, ry, opacity in ((60, 15, 0.55), (50, 11, 0.75), (40, 8, 0.95))
    )
    return scenery.sky("#a9dcf6", "#e6f6fd") + sun + scenery.band(horizon, "#3aa5dc") + rows + rings


def _wave_rows(rng: Random) -> list[tuple[float, float, float, str, float]]:
    """Offset below the horizon, wave length, wave height, colour, shift, from far to near."""
    rows = ((8, 16, 1.6, "#2f97d4"), (21, 22, 2.2, "#2486c6"), (37, 28, 2.8, "#1b76b8"), (56, 34, 3.4, "#1567a8"))
    return [(*row, rng.uniform(0, row[1])) for row in rows]


def _fuji(rng: Random) -> str:
    x = rng.uniform(32, 40)
    sun = scenery.circle(103, 40, 13, "#f4694f")
    mist = scenery.ellipse(16, 92, 34, 4, "#fff4ef") + scenery.ellipse(112, 88, 36, 4, "#fff4ef")
    forest = scenery.hill(98, 94, 98, "#4f8a6a")
    lake = (
        scenery.band(106, "#7fb6d6")
        + scenery.rect(4, 111, 34, 2.4, "#cfe8f4", 1.2)
        + scenery.rect(88, 116, 36, 2.4, "#cfe8f4", 1.2)
    )
    scene = sun + scenery.fuji(x, rng.uniform(10, 14), 104, "#5f7fb8", "#4c689f", "#ffffff") + mist + forest + lake
    branch = scenery.blossom_branch(True)
    return scenery.sky("#a9d3ee", "#fde0d6") + (scenery.mirrored(scene + branch) if _coin(rng) else scene + branch)


_CONTEXTS: dict[str, Callable[[Random], str]] = {
    "plain": _plain, "beach": _beach, "jungle": _jungle, "snow": _snow, "night": _night, "autumn": _autumn,
    "clouds": _clouds, "flowers": _flowers, "eiffel": _eiffel, "water": _water, "fuji": _fuji,
}  # fmt: skip
CONTEXTS = tuple(_CONTEXTS)


def backdrop(context: str, rng: Random, size: int) -> NDArray[np.float32]:
    """The backdrop of ``context``, [size, size, 3] in 0 .. 1; deterministic for a given state of ``rng``."""
    markup = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128">{_CONTEXTS[context](rng)}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=markup, width=size, height=size, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"), np.float32) / np.float32(255)
