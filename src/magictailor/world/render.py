"""From a scene to its picture and its masks."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magictailor.world.art import RGBA, Window, canvas, component_extent, draw_component, draw_concept
from magictailor.world.backdrops import backdrop
from magictailor.world.filters import FILTERS, night
from magictailor.world.scene import Component, Concept, Scene

SIZE = 128  # pixels
OPAQUE = 127  # alpha from which on a pixel is the subject's: shadows are no part of it
DIFFERENT = 10  # of 255, in a channel or in alpha: so much a part changes what it covers
FAR, CLOSE = 0.5, 1.45
FILLED = 0.72  # of the frame, by a component alone
FOCUS, NARROWEST = 0.66, 0.42  # of the frame, by a component close up; of the drawing, what the frame shows at least
Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Rendering:
    """``image`` uint8 [S, S, 3]; ``inside`` uint8 [S, S], how much of each pixel a subject covers, 255 all of it."""

    image: NDArray[np.uint8]
    inside: Mask


def _frame(scene: Scene, left: float, top: float, side: float) -> Window:
    """A window moved and scaled as the scene says, about its centre."""
    scaled = side / scene.zoom
    inset = (side - scaled) / 2
    return Window(left + inset - scene.x * scaled, top + inset - scene.y * scaled, scaled)


def _around(box: tuple[float, float, float, float], share: float) -> tuple[float, float, float]:
    """Left, top and side of a square in which the box fills this share."""
    side = max(box[2] - box[0], box[3] - box[1]) / share
    return (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2, side


def _component_window(part: Component, scene: Scene) -> Window:
    return _frame(scene, *_around(component_extent(replace(part, color=None), scene.mirrored), FILLED))


def _close_up(concept: Concept, scene: Scene) -> Window:
    """A window around one component, wide enough to show whom it is on, and never below a bust's lower edge."""
    assert scene.focus is not None
    side = canvas(concept.category)
    box = component_extent(replace(concept.own(scene.focus), color=None), scene.mirrored)
    left, top, shown = _around(box, FOCUS)
    widened = max(0.0, NARROWEST * side - shown)
    window = _frame(scene, left - widened / 2, top - widened / 2, shown + widened)
    if concept.spec.bust:
        window = replace(window, y=min(window.y, side - window.side))
    return window


def _concept_window(concept: Concept, scene: Scene, index: int) -> Window:
    side = canvas(concept.category)
    if scene.focus is not None:
        return _close_up(concept, scene)
    scale = concept.spec.scale * scene.zoom * {None: 1.0, "far": FAR, "close": CLOSE}[scene.view]
    # Close views show the head, far ones stand lower.
    x, y = 0.5 + scene.x, 0.5 + scene.y + {None: 0.0, "far": 0.14, "close": 0.1}[scene.view]
    if len(scene.subjects) == 2:
        scale, x, y = 0.56 * scale, 0.27 + 0.46 * index + scene.x, y + 0.14
    shown = side / scale
    top = side / 2 - y * shown
    if concept.spec.bust:  # nothing below it is seen
        top = min(top, side - shown)
    return Window(side / 2 - x * shown, top, shown)


def window_of(scene: Scene, index: int = 0) -> Window:
    """What of its drawing the scene shows of its ``index``-th subject."""
    subject = scene.subjects[index]
    if isinstance(subject, Concept):
        return _concept_window(subject, scene, index)
    return _component_window(subject, scene)


def drawn(scene: Scene, size: int = SIZE) -> list[RGBA]:
    """Each subject by itself, uint8 [S, S, 4]."""
    layers = []
    for i, subject in enumerate(scene.subjects):
        draw = draw_concept if isinstance(subject, Concept) else draw_component
        layers.append(draw(subject, window_of(scene, i), scene.mirrored, size))  # type: ignore[arg-type]
    return layers


def render(scene: Scene, size: int = SIZE) -> Rendering:
    """The scene's picture. Deterministic."""
    rng = np.random.default_rng((scene.noise, 2))
    picture: NDArray[np.floating[Any]] = backdrop(scene.context, rng, size)
    inside: NDArray[np.floating[Any]] = np.zeros((size, size), np.float32)
    for layer in drawn(scene, size):
        alpha = layer[..., 3].astype(np.float32) / 255
        picture = picture * (1 - alpha[..., None]) + layer[..., :3].astype(np.float32) / 255 * alpha[..., None]
        inside = np.maximum(inside, alpha)
    inside = inside * (inside > OPAQUE / 255)
    if scene.context == "night":
        picture = night(picture, inside)
    if scene.treatment is not None:
        picture = FILTERS[scene.treatment](picture, inside)
    return Rendering((picture.clip(0, 1) * 255 + 0.5).astype(np.uint8), (inside * 255 + 0.5).astype(np.uint8))


def _differs(first: RGBA, second: RGBA) -> NDArray[np.bool_]:
    """Where two drawings are not the same, [S, S]."""
    a, b = (np.concatenate([x[..., :3] * (x[..., 3:] / 255.0), x[..., 3:]], -1) for x in (first, second))
    different: NDArray[np.bool_] = (np.abs(a - b) > DIFFERENT).any(-1)
    return different


def component_masks(
    scene: Scene, size: int = SIZE, index: int = 0
) -> tuple[NDArray[np.bool_], list[NDArray[np.bool_]]]:
    """Where the scene's ``index``-th subject, a concept, is, and where each of its components is, bool [S, S].

    A component is where the drawings with it and without it differ.
    """
    concept, window = scene.subjects[index], window_of(scene, index)
    assert isinstance(concept, Concept)
    full = draw_concept(concept, window, scene.mirrored, size)
    opaque = full[..., 3] > OPAQUE
    bare = (draw_concept(concept.without(c), window, scene.mirrored, size) for c in concept.components)
    return opaque, [_differs(full, other) & opaque for other in bare]


def masks(scene: Scene, kind: str, size: int = SIZE) -> dict[str, Mask]:
    """The concept without its component of this kind, and that component: uint8 [S, S], 255 inside."""
    concept = scene.subjects[0]
    assert isinstance(concept, Concept)
    opaque, parts = component_masks(scene, size)
    part = parts[[c.kind for c in concept.components].index(kind)]
    return {"concept": (opaque & ~part).astype(np.uint8) * 255, "component": part.astype(np.uint8) * 255}
