"""The eleven kinds of component, four styles each: how they are drawn on what they belong to.

A part may lie partly behind the body (long hair, tails), so each kind is drawn in two passes: ``behind``
before the body, and ``front`` after it.
"""

import math

from magictailor.world.bodies import INK, Anchors
from magictailor.world.canvas import Canvas, Point
from magictailor.world.scene import Component

# Where each kind attaches.
PLACES = {
    "hair": "top", "hat": "top", "glasses": "face", "ears": "top", "tail": "side", "roof": "top", "door": "base",
    "lid": "top", "label": "front", "wheels": "base", "antenna": "top",
}  # fmt: skip


def _star(center: Point, radius: float, points: int = 5, inner: float = 0.45) -> list[Point]:
    turns = [math.pi * (i / points) - math.pi / 2 for i in range(2 * points)]
    radii = [radius if i % 2 == 0 else inner * radius for i in range(2 * points)]
    return [(center[0] + r * math.cos(a), center[1] + r * math.sin(a)) for a, r in zip(turns, radii, strict=True)]


def behind(canvas: Canvas, part: Component, anchors: Anchors) -> None:
    """What of the part lies behind the body."""
    x, y, w = getattr(anchors, PLACES[part.kind])
    s, fill = part.size, part.surface
    if part.kind == "hair" and part.style == "long":
        canvas.ellipse((x, y + 0.28 * s * 0.8), w * 1.45, 0.4 * s, fill)
    if part.kind != "tail":
        return
    if part.style == "straight":
        canvas.stroke(((x, y), (x + 0.12, y - 0.05), (x + 0.2, y - 0.42 * s)), 0.08, fill)
    elif part.style == "curly":
        turns = [(i / 10, 0.13 * s * (1 - i / 26)) for i in range(17)]
        curl = [(x + 0.17 + r * math.sin(6.3 * t), y - 0.2 * s + r * math.cos(6.3 * t)) for t, r in turns]
        canvas.stroke([(x, y + 0.03), (x + 0.1, y + 0.02), *curl], 0.06, fill)
    elif part.style == "bushy":
        canvas.stroke(((x, y), (x + 0.12, y)), 0.06, fill)
        canvas.ellipse((x + 0.16, y - 0.16 * s), 0.13, 0.22 * s, fill)
    else:
        fork = (x + 0.16, y - 0.16 * s)
        canvas.stroke(((x, y), (x + 0.1, y - 0.02), fork), 0.06, fill)
        canvas.stroke((fork, (x + 0.05, y - 0.38 * s)), 0.065, fill)
        canvas.stroke((fork, (x + 0.3, y - 0.36 * s)), 0.065, fill)


def _hair(canvas: Canvas, part: Component, x: float, y: float, w: float) -> None:
    s, fill = part.size, part.surface
    if part.style == "spiky":
        tips = [(x + 1.15 * w * math.sin(a), y - 0.1 - 0.22 * s * math.cos(a)) for a in (-1.25, -0.62, 0, 0.62, 1.25)]
        valleys = [(x + 0.75 * w * math.sin(a), y - 0.11 * math.cos(a) - 0.02) for a in (-0.9, -0.3, 0.3, 0.9)]
        crown = [tips[0], *(p for pair in zip(valleys, tips[1:], strict=True) for p in pair)]
        canvas.polygon([(x - 0.95 * w, y + 0.08), *crown, (x + 0.95 * w, y + 0.08), (x, y + 0.01)], fill)
    elif part.style == "curly":
        for a in (-1.9, -1.35, 1.35, 1.9, -0.8, 0.8, -0.27, 0.27):
            canvas.ellipse((x + 1.05 * w * math.sin(a), y + 0.06 - 1.0 * w * s * math.cos(a)), 0.1 * s, 0.1 * s, fill)
        canvas.dome((x, y + 0.07), w * 0.85, 0.17, fill)
    elif part.style == "long":
        canvas.dome((x, y + 0.05), w * 1.05, 0.2 * s, fill)
    else:
        canvas.polygon(
            (
                (x - 0.055, y + 0.04),
                (x - 0.11 * s, y - 0.31 * s),
                (x, y - 0.26 * s),
                (x + 0.11 * s, y - 0.31 * s),
                (x + 0.055, y + 0.04),
            ),
            fill,
        )


def _hat(canvas: Canvas, part: Component, x: float, y: float, w: float) -> None:
    s, fill = part.size, part.surface
    brim = y - 0.02
    if part.style == "tall":
        canvas.rectangle(x - 0.75 * w, brim - 0.27 * s, x + 0.75 * w, brim, fill)
        canvas.rectangle(x - 1.2 * w, brim - 0.05, x + 1.2 * w, brim + 0.02, fill)
    elif part.style == "wide":
        canvas.dome((x, brim), 0.8 * w, 0.17 * s, fill)
        canvas.ellipse((x, brim), 1.75 * w * s, 0.055, fill)
    elif part.style == "pointed":
        canvas.polygon(((x - 1.05 * w, brim + 0.02), (x, brim - 0.36 * s), (x + 1.05 * w, brim + 0.02)), fill)
    else:
        canvas.dome((x, brim + 0.04), 1.1 * w, 0.26 * s, fill)
        canvas.ellipse((x, brim - 0.23 * s), 0.06, 0.06, fill)


def _glasses(canvas: Canvas, part: Component, x: float, y: float, w: float) -> None:
    s, fill = part.size, part.surface
    if part.style == "wide":
        canvas.rectangle(x - 1.1 * w, y - 0.065 * s, x + 1.1 * w, y + 0.065 * s, fill)
        return
    canvas.stroke(((x - 1.05 * w, y), (x + 1.05 * w, y)), 0.03, fill)
    for sign in (-1, 1):
        cx, r = x + sign * 0.115, 0.105 * s
        if part.style == "round":
            canvas.ellipse((cx, y), r, r, fill)
        elif part.style == "tall":
            canvas.rectangle(cx - 0.55 * r, y - 1.35 * r, cx + 0.55 * r, y + 1.35 * r, fill)
        else:
            canvas.polygon(((cx - sign * r, y - 0.3 * r), (cx + sign * 1.5 * r, y - 1.5 * r), (cx, y + 1.1 * r)), fill)
        canvas.ellipse((cx, y), 0.45 * r, 0.45 * r, INK)


def _ears(canvas: Canvas, part: Component, x: float, y: float, w: float) -> None:
    s, fill = part.size, part.surface
    for sign in (-1, 1):
        cx = x + sign * 0.72 * w
        if part.style == "pointed":
            canvas.polygon(((cx - 0.1, y + 0.02), (cx + sign * 0.04, y - 0.24 * s), (cx + 0.1, y + 0.02)), fill)
        elif part.style == "round":
            canvas.ellipse((cx + sign * 0.04, y - 0.06), 0.105 * s, 0.105 * s, fill)
        elif part.style == "long":
            canvas.ellipse((cx, y - 0.15 * s), 0.062, 0.2 * s, fill)
        else:
            canvas.ellipse((cx + sign * 0.12, y + 0.12 * s), 0.075, 0.18 * s, fill)


def _roof(canvas: Canvas, part: Component, x: float, y: float, w: float) -> None:
    s, fill = part.size, part.surface
    if part.style == "pointed":
        canvas.polygon(((x - 1.3 * w, y + 0.02), (x, y - 0.38 * s), (x + 1.3 * w, y + 0.02)), fill)
    elif part.style == "round":
        canvas.dome((x, y + 0.02), 1.2 * w, 0.29 * s, fill)
    elif part.style == "flat":
        canvas.rectangle(x - 1.5 * w, y - 0.13 * s, x + 1.5 * w, y + 0.02, fill)
    else:
        canvas.rectangle(x - 0.6 * w, y - 0.34 * s, x + 0.6 * w, y + 0.02, fill)
        canvas.rectangle(x - 1.5 * w, y - 0.14 * s, x + 1.5 * w, y + 0.02, fill)


def _door(canvas: Canvas, part: Component, x: float, y: float, w: float) -> None:
    s, fill = part.size, part.surface
    if part.style == "wide":
        canvas.rectangle(x - 0.2 * s, y - 0.17 * s, x + 0.2 * s, y + 0.02, fill)
    elif part.style == "tall":
        canvas.rectangle(x - 0.07 * s, y - 0.34 * s, x + 0.07 * s, y + 0.02, fill)
    elif part.style == "round":
        canvas.ellipse((x, y - 0.17 * s), 0.15 * s, 0.15 * s, fill)
    else:
        half, spring = 0.13 * s, y - 0.17 * s
        arc = [(x + half * math.cos(a), spring - half * math.sin(a)) for a in [math.pi * i / 8 for i in range(9)]]
        canvas.polygon([(x + half, y + 0.02), *arc, (x - half, y + 0.02)], fill)
    canvas.ellipse((x + 0.035 * s, y - 0.13 * s), 0.025, 0.025, INK)  # a knob: alone, a door could be a label or a lid


def _lid(canvas: Canvas, part: Component, x: float, y: float, w: float) -> None:
    s, fill = part.size, part.surface
    if part.style == "flat":
        canvas.rectangle(x - 1.5 * w, y - 0.09 * s, x + 1.5 * w, y + 0.02, fill)
    elif part.style == "round":
        canvas.ellipse((x, y - 0.11 * s), 0.14 * s, 0.14 * s, fill)
    elif part.style == "tall":
        canvas.rectangle(x - 0.95 * w, y - 0.26 * s, x + 0.95 * w, y + 0.02, fill)
    else:
        canvas.polygon(((x - 1.35 * w, y + 0.02), (x, y - 0.28 * s), (x + 1.35 * w, y + 0.02)), fill)


def _label(canvas: Canvas, part: Component, x: float, y: float, w: float) -> None:
    s, fill = part.size, part.surface
    if part.style == "tall":
        canvas.rectangle(x - 0.075 * s, y - 0.23 * s, x + 0.075 * s, y + 0.23 * s, fill)
    elif part.style == "round":
        canvas.ellipse((x, y), 0.14 * s, 0.14 * s, fill)
    elif part.style == "diamond":
        canvas.polygon(((x - 0.26 * s, y), (x, y - 0.23 * s), (x + 0.26 * s, y), (x, y + 0.23 * s)), fill)
    else:
        canvas.rectangle(x - 1.05 * w, y - 0.075 * s, x + 1.05 * w, y + 0.075 * s, fill)
    for line in (-0.03, 0.03):  # writing
        canvas.stroke(((x - 0.05, y + line), (x + 0.05, y + line)), 0.014, INK)


def _wheels(canvas: Canvas, part: Component, x: float, y: float, w: float) -> None:
    s, fill = part.size, part.surface
    for sign in (-1, 1):
        center, r = (x + sign * w, y + 0.02), 0.16 * s
        if part.style == "solid":
            canvas.ellipse(center, r, r, fill)
        elif part.style == "wide":
            canvas.ellipse(center, 1.45 * r, 0.6 * r, fill)
        elif part.style == "star":
            canvas.polygon(_star(center, 1.5 * r, inner=0.38), fill)
        else:
            canvas.ellipse(center, r, r, fill)
            for dx, dy in ((0.75 * r, 0), (0, 0.75 * r)):
                ends = ((center[0] - dx, center[1] - dy), (center[0] + dx, center[1] + dy))
                canvas.stroke(ends, 0.05, (250, 250, 250))


def _antenna(canvas: Canvas, part: Component, x: float, y: float, w: float) -> None:
    s, fill = part.size, part.surface
    if part.style == "straight":
        canvas.stroke(((x, y), (x, y - 0.24 * s)), 0.065, fill)
        canvas.ellipse((x, y - 0.27 * s), 0.09, 0.09, fill)
    elif part.style == "curly":
        zigzag = [(x + (0.11 if i % 2 else -0.11), y - 0.075 * s * i) for i in range(5)]
        canvas.stroke([(x, y), *zigzag[1:], (x, y - 0.36 * s)], 0.065, fill)
    elif part.style == "forked":
        for sign in (-1, 1):
            tip = (x + sign * 0.16, y - 0.26 * s)
            canvas.stroke(((x, y), tip), 0.065, fill)
            canvas.ellipse(tip, 0.075, 0.075, fill)
    else:
        canvas.stroke(((x, y), (x, y - 0.1)), 0.065, fill)
        canvas.ellipse((x, y - 0.2 * s), 0.15 * s, 0.15 * s, fill)
        canvas.ellipse((x, y - 0.2 * s), 0.065 * s, 0.065 * s, (250, 250, 250))


_FRONT = {
    "hair": _hair, "hat": _hat, "glasses": _glasses, "ears": _ears, "roof": _roof, "door": _door, "lid": _lid,
    "label": _label, "wheels": _wheels, "antenna": _antenna,
}  # fmt: skip


def front(canvas: Canvas, part: Component, anchors: Anchors) -> None:
    """What of the part lies on the body."""
    if part.kind in _FRONT:
        x, y, w = getattr(anchors, PLACES[part.kind])
        _FRONT[part.kind](canvas, part, x, y, w)
