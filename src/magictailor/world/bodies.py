"""The six categories: how their bodies are drawn, and where components go on them."""

from dataclasses import dataclass

from magictailor.world.canvas import Canvas
from magictailor.world.scene import RGB, Concept

INK: RGB = (30, 28, 34)
GLASS: RGB = (176, 216, 236)


@dataclass(frozen=True)
class Anchors:
    """Where components attach, in the thing's units: (x, y, half width)."""

    top: tuple[float, float, float]
    face: tuple[float, float, float]
    front: tuple[float, float, float]
    base: tuple[float, float, float]
    side: tuple[float, float, float]


def _eyes(canvas: Canvas, y: float, spread: float, radius: float) -> None:
    for sign in (-1, 1):
        canvas.ellipse((sign * spread, y), radius * 1.5, radius * 1.5, (250, 250, 250))
        canvas.ellipse((sign * spread, y), radius * 0.8, radius * 0.8, INK)


def person(canvas: Canvas, who: Concept) -> Anchors:
    head, shoulders, neck = 0.2 * who.build[0], 0.29 * who.build[1], 0.1 * who.build[2]
    y = -0.06
    chin = y + head
    canvas.rectangle(-0.06, chin - 0.05, 0.06, chin + neck, who.skin)
    canvas.polygon(
        ((-0.1, chin + 0.03), (0.1, chin + 0.03), (shoulders, chin + 0.13), (shoulders + 0.03, 0.5),
         (-shoulders - 0.03, 0.5), (-shoulders, chin + 0.13)),
        who.surface,
    )  # fmt: skip
    canvas.ellipse((0, y), head * 0.92, head, who.skin)
    _eyes(canvas, y + 0.01, 0.075, 0.02)
    canvas.stroke(((-0.05, y + 0.1), (0, y + 0.12), (0.05, y + 0.1)), 0.012, (170, 60, 60))
    return Anchors(
        (0, y - 0.45 * head, head), (0, y + 0.01, head), (0, 0.34, 0.16), (0, 0.46, 0.24), (shoulders, 0.4, 0.1)
    )


def cat(canvas: Canvas, who: Concept) -> Anchors:
    head, body, y = 0.2 * who.build[0], 0.22 * who.build[1], -0.1
    canvas.ellipse((0, 0.25), body, 0.25 * who.build[2], who.surface)
    for sign in (-1, 1):
        canvas.ellipse((sign * 0.1, 0.46), 0.08, 0.05, who.surface)
    canvas.ellipse((0, y), head * 1.1, head, who.surface)
    _eyes(canvas, y - 0.02, 0.085, 0.024)
    canvas.polygon(((-0.03, y + 0.05), (0.03, y + 0.05), (0, y + 0.085)), (240, 140, 150))
    canvas.stroke(((-0.05, y + 0.12), (0, y + 0.09), (0.05, y + 0.12)), 0.01, INK)
    return Anchors((0, y - 0.5 * head, head), (0, y, head), (0, 0.28, 0.13), (0, 0.46, 0.2), (body * 0.8, 0.38, 0.1))


def tower(canvas: Canvas, who: Concept) -> Anchors:
    width, top = 0.19 * who.build[0], -0.16 * who.build[1]
    foot = width + 0.05 * who.build[2]
    canvas.polygon(((-width, top), (width, top), (foot, 0.5), (-foot, 0.5)), who.surface)
    for sign in (-1, 1):
        canvas.rectangle(sign * 0.08 - 0.035, top + 0.09, sign * 0.08 + 0.035, top + 0.2, INK)
    return Anchors((0, top, width), (0, top + 0.14, width), (0, 0.3, 0.14), (0, 0.47, foot), (width, 0.2, 0.1))


def bottle(canvas: Canvas, who: Concept) -> Anchors:
    width, neck, top = 0.21 * who.build[0], 0.085 * who.build[1], -0.22 * who.build[2]
    shoulder = top + 0.2
    canvas.polygon(
        ((-neck, top), (neck, top), (neck, top + 0.08), (width, shoulder), (width, 0.46), (width - 0.04, 0.5),
         (-width + 0.04, 0.5), (-width, 0.46), (-width, shoulder), (-neck, top + 0.08)),
        who.surface,
    )  # fmt: skip
    return Anchors(
        (0, top + 0.02, neck + 0.03), (0, shoulder, width), (0, 0.22, width), (0, 0.46, width), (width, 0.3, 0.1)
    )


def car(canvas: Canvas, who: Concept) -> Anchors:
    length, height, cabin = 0.44 * who.build[0], 0.2 * who.build[1], 0.22 * who.build[2]
    bottom, deck = 0.24, 0.24 - height
    canvas.polygon(
        (
            (-cabin - 0.05, deck + 0.01),
            (-cabin + 0.05, deck - 0.19),
            (cabin - 0.08, deck - 0.19),
            (cabin + 0.07, deck + 0.01),
        ),
        who.surface,
    )
    canvas.polygon(
        (
            (-cabin + 0.03, deck - 0.01),
            (-cabin + 0.09, deck - 0.14),
            (cabin - 0.11, deck - 0.14),
            (cabin - 0.01, deck - 0.01),
        ),
        GLASS,
    )
    canvas.polygon(
        ((-length, deck + 0.02), (-length + 0.04, deck), (length - 0.08, deck), (length, deck + 0.07), (length, bottom),
         (-length, bottom)),
        who.surface,
    )  # fmt: skip
    canvas.ellipse((length - 0.03, deck + 0.1), 0.03, 0.035, (255, 240, 150))
    return Anchors(
        (0, deck - 0.17, cabin),
        (0, deck - 0.06, cabin),
        (0, bottom - 0.1, 0.12),
        (0, bottom, 0.26),
        (length, bottom - 0.06, 0.1),
    )


def robot(canvas: Canvas, who: Concept) -> Anchors:
    head, body, y = 0.19 * who.build[0], 0.23 * who.build[1], -0.08
    for sign in (-1, 1):
        canvas.rectangle(sign * 0.1 - 0.055, 0.38, sign * 0.1 + 0.055, 0.5, (120, 124, 132))
        canvas.rectangle(sign * (body + 0.045) - 0.04, 0.1, sign * (body + 0.045) + 0.04, 0.32, (120, 124, 132))
    canvas.rectangle(-body, 0.06, body, 0.42, who.surface)
    canvas.rectangle(-head * 1.05, y - 0.15 * who.build[2], head * 1.05, y + 0.14, who.surface)
    _eyes(canvas, y - 0.02, 0.085, 0.03)
    canvas.rectangle(-0.08, y + 0.06, 0.08, y + 0.09, INK)
    top = y - 0.15 * who.build[2]
    return Anchors((0, top, head), (0, y - 0.01, head), (0, 0.24, 0.15), (0, 0.46, 0.2), (body, 0.36, 0.1))


BODIES = {"person": person, "cat": cat, "tower": tower, "bottle": bottle, "car": car, "robot": robot}
