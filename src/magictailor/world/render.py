"""From a scene to its picture and its masks."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magictailor.world.backgrounds import background
from magictailor.world.bodies import BODIES, Anchors
from magictailor.world.canvas import SUPERSAMPLING, Canvas
from magictailor.world.parts import PLACES, behind, front
from magictailor.world.scene import SLOTS, Component, Concept, Scene, Surface
from magictailor.world.treatments import TREATMENT, Picture

BODY = 1  # owner of the first thing's body; its i-th component owns BODY + 1 + i
NEXT = 16  # the second thing's owners start here


@dataclass(frozen=True)
class Rendering:
    """``image`` uint8 [S, S, 3]; ``owners`` uint8 [4 S, 4 S], who is seen where (0: nobody)."""

    image: NDArray[np.uint8]
    owners: NDArray[np.uint8]

    def mask(self, *owners: int) -> NDArray[np.uint8]:
        """Coverage by these owners, uint8 [S, S], 255 inside."""
        inside = np.isin(self.owners, owners).astype(np.uint8) * 255
        side = inside.shape[0] // SUPERSAMPLING
        return np.asarray(Image.fromarray(inside).resize((side, side), Image.Resampling.BOX))


@cache
def _nominal_anchors(kind: str) -> Anchors:
    """Where a component of this kind sits on an average body of its own category."""
    category = next(c for c, kinds in SLOTS.items() if kind in kinds)
    gray = Surface("white", (128, 128, 128), "plain", (0, 0, 0))
    return BODIES[category](Canvas(8, (0, 0, 0)), Concept(category, gray, (1.0, 1.0, 1.0), (0, 0, 0), ()))


def _in_order(concept: Concept) -> list[tuple[int, Component]]:
    """Its components with their numbers, as they lie on each other: a hat on the hair, in whatever order they came."""
    slots = SLOTS[concept.category]
    places = [slots.index(part.kind) if part.kind in slots else 0 for part in concept.components]
    return sorted(enumerate(concept.components), key=lambda numbered: places[numbered[0]])


def _draw_concept(canvas: Canvas, concept: Concept, first: int) -> None:
    scratch = Canvas(1, (0, 0, 0))
    anchors = BODIES[concept.category](scratch, concept)
    parts = _in_order(concept)
    for i, part in parts:
        canvas.owner = first + 1 + i
        behind(canvas, part, anchors)
    canvas.owner = first
    BODIES[concept.category](canvas, concept)
    for i, part in parts:
        canvas.owner = first + 1 + i
        front(canvas, part, anchors)


def _draw_component(canvas: Canvas, part: Component, owner: int) -> None:
    anchors = _nominal_anchors(part.kind)
    canvas.owner = owner
    behind(canvas, part, anchors)
    front(canvas, part, anchors)


def _fit_component(canvas: Canvas, part: Component, scene: Scene) -> None:
    """Place a component alone so that it fills three quarters of the frame."""
    probe = Canvas(16, (0, 0, 0))
    probe.place(0.5, 0.5, 0.5)
    _draw_component(probe, part, 1)
    left, top, right, bottom = (v / probe.side for v in probe.owners.getbbox() or (0, 0, 1, 1))
    zoom = 0.5 * 0.72 / max(right - left, bottom - top) * scene.zoom
    sign = -1 if scene.mirrored else 1
    x = 0.5 - sign * ((left + right) / 2 - 0.5) * zoom / 0.5
    y = 0.5 - ((top + bottom) / 2 - 0.5) * zoom / 0.5
    canvas.place(x + scene.x, y + scene.y, zoom, scene.mirrored)


def _place_concept(canvas: Canvas, concept: Concept, scene: Scene) -> None:
    x, y, zoom = 0.5 + scene.x, 0.55 + scene.y, 0.84 * scene.zoom
    if scene.view == "far":
        zoom, y = 0.5 * zoom, y + 0.1
    elif scene.view == "close":
        zoom, y = 1.5 * zoom, y + 0.1
    elif scene.focus is not None:
        ax, ay, _ = getattr(BODIES[concept.category](Canvas(1, (0, 0, 0)), concept), PLACES[scene.focus])
        zoom *= 1.5
        lift = 0.12 if PLACES[scene.focus] == "top" else 0.0
        x, y = x - (-ax if scene.mirrored else ax) * zoom, 0.5 + scene.y - (ay - lift) * zoom
    canvas.place(x, y, zoom, scene.mirrored)


def render(scene: Scene, size: int = 64) -> Rendering:
    """Draw a scene. Deterministic; drawn at four times the size and box-filtered down."""
    rng = np.random.default_rng((scene.noise, 2))
    canvas = Canvas(size, background(scene, rng))
    for i, thing in enumerate(scene.things):
        if len(scene.things) == 2:
            canvas.place(0.27 + 0.46 * i + scene.x, 0.55 + scene.y, 0.5 * scene.zoom, scene.mirrored)
        elif isinstance(thing, Component):
            _fit_component(canvas, thing, scene)
        else:
            _place_concept(canvas, thing, scene)
        if isinstance(thing, Component):
            _draw_component(canvas, thing, BODY + NEXT * i)
        else:
            _draw_concept(canvas, thing, BODY + NEXT * i)
    small = canvas.image.resize((size, size), Image.Resampling.BOX)
    picture: Picture = np.asarray(small, np.float32) / 255
    covered = np.asarray(canvas.owners.point(lambda v: 255 * (v > 0)).resize((size, size), Image.Resampling.BOX))
    inside: Picture = covered.astype(np.float32) / 255
    for name in (scene.context if scene.context == "night" else None, scene.treatment):
        if name is not None:
            picture = TREATMENT[name](picture, inside, rng)
    image = (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return Rendering(image, np.asarray(canvas.owners))
