"""Flat shapes for the backdrops, as fragments of SVG.

Lengths are in units of a frame of 128 x 128, y downwards; colours are CSS colours. Every function returns markup.
"""

import math
from collections.abc import Iterable

SIDE = 128  # side of the frame, in SVG units

Spot = tuple[float, float, float]  # x, y, radius of a circle


def rect(x: float, y: float, width: float, height: float, fill: str, corner: float = 0) -> str:
    """A box with its top left at (x, y) and corners rounded by the radius ``corner``."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{corner:.1f}" fill="{fill}"/>'


def band(top: float, fill: str) -> str:
    """Everything below ``top``, over the whole width."""
    return rect(0, top, SIDE, SIDE - top, fill)


def circles(spots: Iterable[Spot], fill: str) -> str:
    """The union of circles (x, y, radius), as one path."""
    return path(
        "".join(
            f"M{x - r:.2f} {y:.2f}a{r:.2f} {r:.2f} 0 1 0 {2 * r:.2f} 0a{r:.2f} {r:.2f} 0 1 0 {-2 * r:.2f} 0"
            for x, y, r in spots
        ),
        fill,
    )


def circle(x: float, y: float, radius: float, fill: str) -> str:
    return f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}" fill="{fill}"/>'


def ellipse(x: float, y: float, rx: float, ry: float, fill: str, turn: float = 0) -> str:
    """An ellipse with half axes rx and ry, turned clockwise by ``turn`` degrees."""
    return (
        f'<ellipse rx="{rx:.1f}" ry="{ry:.1f}" fill="{fill}" '
        f'transform="translate({x:.1f} {y:.1f}) rotate({turn:.0f})"/>'
    )


def path(d: str, fill: str) -> str:
    """The filled area of the path data ``d``."""
    return f'<path d="{d}" fill="{fill}"/>'


def line(d: str, stroke: str, width: float) -> str:
    """A stroke with round ends along the path data ``d``."""
    return f'<path d="{d}" fill="none" stroke="{stroke}" stroke-width="{width:.1f}" stroke-linecap="round" stroke-linejoin="round"/>'


def place(markup: str, x: float, y: float, scale: float = 1, turn: float = 0, mirror: bool = False) -> str:
    """``markup`` with its origin moved to (x, y), scaled, turned by ``turn`` degrees, mirrored left to right."""
    across = -scale if mirror else scale
    return f'<g transform="translate({x:.1f} {y:.1f}) scale({across:.3f} {scale:.3f}) rotate({turn:.0f})">{markup}</g>'


def mirrored(markup: str) -> str:
    """``markup`` with the left and the right of the frame exchanged."""
    return f'<g transform="translate({SIDE} 0) scale(-1 1)">{markup}</g>'


def sky(top: str, bottom: str) -> str:
    """The whole frame, shaded from ``top`` (#rrggbb) to ``bottom`` in thirteen even bands, 8 high."""
    ends = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (top, bottom)]
    shades = ([a + (b - a) * step / 12 for a, b in zip(*ends, strict=True)] for step in range(13))
    return "".join(band(8 * step, "#" + "".join(f"{round(c):02x}" for c in shade)) for step, shade in enumerate(shades))


def hill(left: float, middle: float, right: float, fill: str) -> str:
    """Ground with an upper edge that runs smoothly through three heights."""
    return path(f"M0 {left:.1f} Q32 {middle:.1f} 64 {middle:.1f} T128 {right:.1f} V128 H0 Z", fill)


def waves(y: float, shift: float, length: float, height: float, fill: str, bottom: float = 130) -> str:
    """A row of round waves, ``length`` apart, ``height`` above y, moved by ``shift``, filled down to ``bottom``."""
    start = -length + shift % length
    arcs = "".join(f"q{length / 2:.1f} {-2 * height:.1f} {length:.1f} 0" for _ in range(int(SIDE / length) + 3))
    return path(f"M{start:.1f} {y:.1f}{arcs}V{bottom:.1f}H{start:.1f}Z", fill)


def cloud(x: float, y: float, scale: float, fill: str = "#ffffff", shade: str = "#d5e8fa") -> str:
    """A puffy cloud, 44 units wide at scale 1, (x, y) the middle of its base."""
    puffs = ((-12, -6, 8), (-1, -11, 11), (11, -7, 9))
    lower = rect(-22, -9, 44, 9, shade, 4.5) + circles(puffs, shade)
    upper = rect(-19, -11, 37, 7, fill, 3.5) + circles(((px - 0.5, py - 2, r - 0.8) for px, py, r in puffs), fill)
    return place(lower + upper, x, y, scale)


def flower(x: float, y: float, radius: float, petals: str, heart: str, turn: float = 0) -> str:
    """A blossom seen from the front: six round petals round a heart."""
    angles = [math.radians(turn + a) for a in range(0, 360, 60)]
    valleys = [f"{x + 0.6 * radius * math.cos(a):.2f} {y + 0.6 * radius * math.sin(a):.2f}" for a in angles]
    petal = f"A{0.34 * radius:.2f} {0.34 * radius:.2f} 0 1 1 "
    outline = f"M{valleys[-1]}" + "".join(petal + valley for valley in valleys) + "Z"
    return path(outline, petals) + circle(x, y, 0.32 * radius, heart)


def stalks(positions: Iterable[tuple[float, float]], green: str) -> str:
    """Flower stalks, each from its (x, top) to the lower edge with a pair of leaves, as one path."""
    parts = []
    for x, top in positions:
        low = min(top + 26, 116)
        right, left = f"V{low - 4:.1f}q4 -7 11 -7q-3 7 -11 9V130h-2.2", f"V{low + 2:.1f}q-7 -2 -11 -9q7 0 11 7Z"
        parts.append(f"M{x - 1.1:.1f} {top:.1f}h2.2{right}{left}")
    return path("".join(parts), green)


def blade(x: float, y: float, length: float, turn: float, fill: str, shade: str | None = None) -> str:
    """A broad pointed leaf that grows from (x, y), one half of it in ``shade``; at turn 0 it points up."""
    half = path("M0 0C.42 -.25 .36 -.75 0 -1Z", shade) if shade else ""
    whole = path("M0 0C-.42 -.25 -.36 -.75 0 -1C.36 -.75 .42 -.25 0 0Z", fill)
    return place(whole + half, x, y, length, turn)


def palm(x: float, y: float, mirror: bool) -> str:
    """A palm with its foot at (x, y), about 88 high, leaning to the right unless mirrored."""
    trunk = path("M-5 0C-2 -30 1 -52 9 -74L14 -73C8 -50 6 -28 5 0Z", "#a9713f")
    rings = "".join(line(f"M{-3 + 3 * i} {-10 - 15 * i}l7 1.5", "#87552c", 1.6) for i in range(4))
    leaves = "".join(
        path(f"M11 -74Q{11 + bx} {-74 + by} {11 + tx} {-74 + ty}Q{11 + cx} {-74 + cy} 11 -74Z", color)
        for bx, by, tx, ty, cx, cy, color in (
            (-16, -20, -34, 4, -17, -6, "#2f8f4a"),
            (16, -20, 32, 5, 16, -6, "#2f8f4a"),
            (-4, -24, -22, -22, -3, -12, "#37a655"),
            (4, -24, 23, -20, 5, -10, "#37a655"),
            (-14, -4, -25, 22, -6, 6, "#43b964"),
            (14, -4, 24, 22, 6, 6, "#43b964"),
        )
    )
    nuts = circle(8, -71, 3, "#7a4a26") + circle(14, -70, 3, "#7a4a26")
    return place(trunk + rings + leaves + nuts, x, y, 1, 0, mirror)


def umbrella(x: float, y: float, mirror: bool) -> str:
    """A red and white beach umbrella, its pole in the sand at (x, y)."""
    pole = line("M0 0V-36", "#f4efe6", 2)
    top = path("M-20 -30A20 20 0 0 1 20 -30Z", "#e8483f")
    stripes = path("M-12 -30Q-9 -45 0 -50Q-2 -40 -3 -30Z", "#fff6ec") + path(
        "M4 -30Q3 -40 0 -50Q9 -45 12 -30Z", "#fff6ec"
    )
    return place(pole + top + stripes, x, y, 1, -12, mirror)


def fir(x: float, y: float, height: float, green: str, snow: str | None = None) -> str:
    """A fir with its foot at (x, y), three tiers, each with a cap of ``snow`` where that is given."""
    body, caps = "M-.05 0V-.2H.05V0Z", ""
    for base, top, half in ((-0.1, -0.52, 0.32), (-0.36, -0.76, 0.25), (-0.6, -1, 0.18)):
        body += f"M{-half} {base}L0 {top}L{half} {base}Z"
        low, cut = top + 0.55 * (base - top), 0.55 * half
        caps += f"M0 {top}L{cut} {low}L{cut / 2} {low - 0.04}L0 {low + 0.03}L{-cut / 2} {low - 0.04}L{-cut} {low}Z"
    return place(path(body, green) + (path(caps, snow) if snow else ""), x, y, height)


def leafy_tree(x: float, y: float, height: float, crown: str, light: str) -> str:
    """A round tree with its foot at (x, y): a forked trunk and a crown in two shades."""
    trunk = path("M-6 0Q-3 -20 -4 -46H4Q3 -20 6 0Z", "#7b4a2b") + line("M0 -34L-12 -52M0 -30L12 -50", "#7b4a2b", 4)
    puffs = ((-17, -58, 15), (16, -56, 16), (-6, -78, 18), (12, -76, 14), (0, -60, 17))
    dark = circles(puffs, crown)
    bright = circles(((px - 3, py - 4, 0.58 * r) for px, py, r in puffs[:4]), light)
    return place(trunk + dark + bright, x, y, height / 96)


def fallen_leaf(x: float, y: float, radius: float, turn: float, fill: str) -> str:
    """A small pointed leaf with its stem, as it falls."""
    return place(path("M0 -1C.8 -.6 .8 .3 .12 .9V1.4H-.12V.9C-.8 .3 -.8 -.6 0 -1Z", fill), x, y, radius, turn)


def star(x: float, y: float, radius: float, fill: str) -> str:
    """A four-pointed twinkling star."""
    return place(path("M0 -1Q.18 -.18 1 0Q.18 .18 0 1Q-.18 .18 -1 0Q-.18 -.18 0 -1Z", fill), x, y, radius)


def eiffel_tower(x: float, y: float, height: float, iron: str, light: str) -> str:
    """The Eiffel Tower, standing at (x, y), its base 0.46 of its height wide."""
    outline = "M-23 0C-14 -16 -8 -34 -5 -62L-2 -94H2L5 -62C8 -34 14 -16 23 0H12Q8 -15 0 -15T-12 0Z"
    body = path(outline, iron) + rect(-1, -100, 2, 8, iron) + rect(-3.4, -93, 6.8, 2.6, iron)
    window = path("M-7.6 -23L-4.6 -36H4.6L7.6 -23Z", light) + path("M-3.4 -42L-1.6 -58H1.6L3.4 -42Z", light)
    braces = "M-7.6 -23L4.6 -36M7.6 -23L-4.6 -36M-3.4 -42L2.2 -51M3.4 -42L-2.2 -51M-2.2 -51L1.6 -58M2.2 -51L-1.6 -58"
    decks = rect(-12.5, -22, 25, 4, iron) + rect(-7.6, -41, 15.2, 3.6, iron)
    legs = line("M-19 -2L-11.5 -10L-13.5 -16M19 -2L11.5 -10L13.5 -16", light, 1.1)
    return place(body + window + line(braces, iron, 1.5) + decks + legs, x, y, height / 100)


def fuji(x: float, peak: float, foot: float, rock: str, shade: str, snow: str) -> str:
    """Mount Fuji: its flat summit in the middle at (x, peak), concave slopes that leave the frame at ``foot``."""
    mountain = path(
        f"M{x - 13} {peak}Q{x - 36} {foot - 26} {x - 112} {foot + 6}H{x + 112}Q{x + 36} {foot - 26} {x + 13} {peak}Z",
        rock,
    )
    shadow = path(f"M{x + 2} {peak}L{x + 13} {peak}Q{x + 36} {foot - 26} {x + 112} {foot + 6}H{x + 30}Z", shade)
    cap = path(
        f"M{x - 13} {peak}L{x - 7} {peak + 2}L{x - 2} {peak}L{x + 5} {peak + 2}L{x + 13} {peak}"
        f"Q{x + 20} {peak + 22} {x + 31} {peak + 38}L{x + 22} {peak + 32}L{x + 17} {peak + 41}L{x + 8} {peak + 29}"
        f"L{x + 1} {peak + 44}L{x - 7} {peak + 30}L{x - 15} {peak + 42}L{x - 21} {peak + 31}L{x - 31} {peak + 38}"
        f"Q{x - 20} {peak + 22} {x - 13} {peak}Z",
        snow,
    )
    return mountain + shadow + cap


def blossom_branch(mirror: bool) -> str:
    """A branch of cherry blossoms that comes in from the upper left corner, or the right if mirrored."""
    wood = line("M-2 2Q14 6 26 18M10 6Q18 4 28 5M4 4Q6 14 5 26", "#6a4238", 2.4)
    positions = ((5, 3, 5), (17, 4, 5), (29, 6, 4.6), (17, 13, 5), (27, 19, 5), (4, 15, 5), (6, 27, 4.6))
    pinks = ("#f7a8c4", "#fbd0e0")
    return place(
        wood + "".join(flower(x, y, r, pinks[i % 2], "#d9587f", 20 * i) for i, (x, y, r) in enumerate(positions)),
        SIDE if mirror else 0,
        0,
        1,
        0,
        mirror,
    )
