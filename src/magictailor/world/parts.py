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
        canvas.stroke(((x, y), (x + 0.12, y - 0.05), (x + 0.2, y - 0.42 * s)), 0.065, fill)
    elif part.style == "curly":
        turns = [(i / 10, 0.13 * s * (1 - i / 26)) for i in range(17)]
        curl = [(x + 0.17 + r * math.sin(6.3 * t), y - 0.2 * s + r * math.cos(6.3 * t)) for t, r in turns]
        canvas.stroke([(x, y + 0.03), (x + 0.1, y + 0.02), *curl], 0.05, fill)
    elif part.style == "bushy":
        canvas.stroke(((x, y), (x + 0.12, y)), 0.06, fill)
        canvas.ellipse((x + 0.16, y - 0.16 * s), 0.105, 0.22 * s, fill)
    else:
        fork = (x + 0.16, y - 0.16 * s)
        canvas.stroke(((x, y), (x + 0.1, y - 0.02), fork), 0.06, fill)
        canvas.stroke((fork, (x + 0.08, y - 0.38 * s)), 0.055, fill)
        canvas.stroke((fork, (x + 0.26, y - 0.36 * s)), 0.055, fill)


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
        canvas.rectangle(x - 1.02 * w, y - 0.055 * s, x + 1.02 * w, y + 0.055 * s, fill)
        return
    canvas.stroke(((x - 0.95 * w, y), (x + 0.95 * w, y)), 0.018, fill)
    for sign in (-1, 1):
        cx, r = x + sign * 0.09, 0.08 * s
        if part.style == "round":
            canvas.ellipse((cx, y), r, r, fill)
        elif part.style == "square":
            canvas.rectangle(cx - r, y - 0.8 * r, cx + r, y + 0.8 * r, fill)
        else:
            canvas.polygon(((cx - sign * r, y - 0.3 * r), (cx + sign * 1.4 * r, y - 1.1 * r), (cx, y + r)), fill)
        canvas.ellipse((cx, y), 0.4 * r, 0.4 * r, INK)


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
        canvas.polygon(((x - 1.35 * w, y + 0.02), (x, y - 0.33 * s), (x + 1.35 * w, y + 0.02)), fill)
    elif part.style == "round":
        canvas.dome((x, y + 0.02), 1.2 * w, 0.29 * s, fill)
    elif part.style == "flat":
        canvas.rectangle(x - 1.5 * w, y - 0.13 * s, x + 1.5 * w, y + 0.02, fill)
    else:
        for i, half in enumerate((1.35, 0.9, 0.45)):
            canvas.rectangle(x - half * w, y - 0.1 * s * (i + 1), x + half * w, y + 0.02 - 0.1 * s * i, fill)


def _door(canvas: Canvas, part: Component, x: float, y: float, w: float) -> None:
    s, fill = part.size, part.surface
    half, top = 0.1 * s, y - 0.22 * s
    if part.style == "square":
        canvas.rectangle(x - half, top, x + half, y + 0.02, fill)
    elif part.style == "round":
        canvas.ellipse((x, y - 0.11 * s), 0.13 * s, 0.13 * s, fill)
    elif part.style == "pointed":
        canvas.polygon(
            ((x - half, y + 0.02), (x - half, top + 0.1), (x, top - 0.05), (x + half, top + 0.1), (x + half, y + 0.02)),
            fill,
        )
    else:
        arc = [(x + half * math.cos(a), top + 0.08 - half * math.sin(a)) for a in [math.pi * i / 8 for i in range(9)]]
        canvas.polygon([(x + half, y + 0.02), *arc, (x - half, y + 0.02)], fill)


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
    if part.style == "square":
        canvas.rectangle(x - 0.13 * s, y - 0.13 * s, x + 0.13 * s, y + 0.13 * s, fill)
    elif part.style == "round":
        canvas.ellipse((x, y), 0.145 * s, 0.145 * s, fill)
    elif part.style == "diamond":
        canvas.polygon(((x - 0.17 * s, y), (x, y - 0.18 * s), (x + 0.17 * s, y), (x, y + 0.18 * s)), fill)
    else:
        canvas.rectangle(x - w, y - 0.075 * s, x + w, y + 0.075 * s, fill)


def _wheels(canvas: Canvas, part: Component, x: float, y: float, w: float) -> None:
    s, fill = part.size, part.surface
    for sign in (-1, 1):
        center, r = (x + sign * w, y + 0.02), 0.135 * s
        if part.style == "solid":
            canvas.ellipse(center, r, r, fill)
        elif part.style == "square":
            canvas.rectangle(center[0] - 0.9 * r, center[1] - 0.9 * r, center[0] + 0.9 * r, center[1] + 0.9 * r, fill)
        elif part.style == "star":
            canvas.polygon(_star(center, 1.3 * r), fill)
        else:
            canvas.ellipse(center, r, r, fill)
            for i in range(3):
                dx, dy = 0.8 * r * math.cos(1.05 * i), 0.8 * r * math.sin(1.05 * i)
                canvas.stroke(
                    ((center[0] - dx, center[1] - dy), (center[0] + dx, center[1] + dy)), 0.018, (250, 250, 250)
                )


def _antenna(canvas: Canvas, part: Component, x: float, y: float, w: float) -> None:
    s, fill = part.size, part.surface
    if part.style == "straight":
        canvas.stroke(((x, y), (x, y - 0.24 * s)), 0.05, fill)
        canvas.ellipse((x, y - 0.27 * s), 0.075, 0.075, fill)
    elif part.style == "curly":
        zigzag = [(x + (0.09 if i % 2 else -0.09), y - 0.075 * s * i) for i in range(5)]
        canvas.stroke([(x, y), *zigzag[1:], (x, y - 0.36 * s)], 0.05, fill)
    elif part.style == "forked":
        for sign in (-1, 1):
            tip = (x + sign * 0.16, y - 0.26 * s)
            canvas.stroke(((x, y), tip), 0.05, fill)
            canvas.ellipse(tip, 0.06, 0.06, fill)
    else:
        canvas.stroke(((x, y), (x, y - 0.1)), 0.05, fill)
        canvas.ellipse((x, y - 0.2 * s), 0.13 * s, 0.13 * s, fill)
        canvas.ellipse((x, y - 0.2 * s), 0.05 * s, 0.05 * s, (250, 250, 250))


_FRONT = {
    "hair": _hair, "hat": _hat, "glasses": _glasses, "ears": _ears, "roof": _roof, "door": _door, "lid": _lid,
    "label": _label, "wheels": _wheels, "antenna": _antenna,
}  # fmt: skip


def front(canvas: Canvas, part: Component, anchors: Anchors) -> None:
    """What of the part lies on the body."""
    if part.kind in _FRONT:
        x, y, w = getattr(anchors, PLACES[part.kind])
        _FRONT[part.kind](canvas, part, x, y, w)
