"""From a scene to its image and its masks."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magictailor.world.art import RGBA, Window, canvas, component_extent, render_component, render_concept
from magictailor.world.backdrops import backdrop
from magictailor.world.filters import FILTERS, night
from magictailor.world.scene import Component, Concept, Scene

SIZE = 128  # pixels
OPAQUE = 127  # a pixel with more alpha belongs to the subject; shadows have less
DIFFERENT = 10  # of 255, in a channel or in alpha: a pixel that a component changes by more belongs to it
FAR, CLOSE = 0.5, 1.45  # scale of the subject
ALONE = 0.72  # fraction of the frame that a component alone fills
FOCUS = 0.66  # fraction of the frame that a component in a close-up fills
NARROWEST = 0.42  # smallest fraction of the canvas that a close-up shows
Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Rendering:
    """``image`` uint8 [S, S, 3]; ``inside`` uint8 [S, S], how much of each pixel a subject covers, 255 if wholly."""

    image: NDArray[np.uint8]
    inside: Mask


def _frame(scene: Scene, left: float, top: float, side: float) -> Window:
    """A window moved and scaled about its centre by the scene's settings."""
    scaled = side / scene.zoom
    inset = (side - scaled) / 2
    return Window(left + inset - scene.x * scaled, top + inset - scene.y * scaled, scaled)


def _square_around(box: tuple[float, float, float, float], fraction: float) -> tuple[float, float, float]:
    """Left, top and side of a square in which the box fills this fraction."""
    side = max(box[2] - box[0], box[3] - box[1]) / fraction
    return (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2, side


def _component_window(component: Component, scene: Scene) -> Window:
    return _frame(scene, *_square_around(component_extent(replace(component, color=None), scene.mirrored), ALONE))


def _close_up(concept: Concept, scene: Scene) -> Window:
    """A window around one component, wide enough to show its owner, and not below a bust's lower edge."""
    assert scene.focus is not None
    side = canvas(concept.category)
    box = component_extent(replace(concept.own(scene.focus), color=None), scene.mirrored)
    left, top, width = _square_around(box, FOCUS)
    margin = max(0.0, NARROWEST * side - width)
    window = _frame(scene, left - margin / 2, top - margin / 2, width + margin)
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
    if concept.spec.bust:  # it has no pixels below its lower edge
        top = min(top, side - shown)
    return Window(side / 2 - x * shown, top, shown)


def window_of(scene: Scene, index: int = 0) -> Window:
    """The part of its canvas that the scene shows of its ``index``-th subject."""
    subject = scene.subjects[index]
    if isinstance(subject, Concept):
        return _concept_window(subject, scene, index)
    return _component_window(subject, scene)


def subject_layers(scene: Scene, size: int = SIZE) -> list[RGBA]:
    """Each subject by itself, uint8 [S, S, 4]."""
    layers = []
    for i, subject in enumerate(scene.subjects):
        render_subject = render_concept if isinstance(subject, Concept) else render_component
        layers.append(render_subject(subject, window_of(scene, i), scene.mirrored, size))  # type: ignore[arg-type]
    return layers


def render(scene: Scene, size: int = SIZE) -> Rendering:
    """Render the scene. Deterministic."""
    rng = np.random.default_rng((scene.noise, 2))
    image: NDArray[np.floating[Any]] = backdrop(scene.context, rng, size)
    inside: NDArray[np.floating[Any]] = np.zeros((size, size), np.float32)
    for layer in subject_layers(scene, size):
        alpha = layer[..., 3].astype(np.float32) / 255
        image = image * (1 - alpha[..., None]) + layer[..., :3].astype(np.float32) / 255 * alpha[..., None]
        inside = np.maximum(inside, alpha)
    inside = inside * (inside > OPAQUE / 255)
    if scene.context == "night":
        image = night(image, inside)
    if scene.treatment is not None:
        image = FILTERS[scene.treatment](image, inside)
    return Rendering((image.clip(0, 1) * 255 + 0.5).astype(np.uint8), (inside * 255 + 0.5).astype(np.uint8))


def _differs(first: RGBA, second: RGBA) -> NDArray[np.bool_]:
    """Pixels in which two layers differ, [S, S]."""
    a, b = (np.concatenate([x[..., :3] * (x[..., 3:] / 255.0), x[..., 3:]], -1) for x in (first, second))
    different: NDArray[np.bool_] = (np.abs(a - b) > DIFFERENT).any(-1)
    return different


def component_masks(
    scene: Scene, size: int = SIZE, index: int = 0
) -> tuple[NDArray[np.bool_], list[NDArray[np.bool_]]]:
    """The masks of the scene's ``index``-th subject, a concept, and of each of its components, bool [S, S].

    A component's mask is where the renders with and without it differ.
    """
    concept, window = scene.subjects[index], window_of(scene, index)
    assert isinstance(concept, Concept)
    full = render_concept(concept, window, scene.mirrored, size)
    opaque = full[..., 3] > OPAQUE
    bare = (render_concept(concept.without(c), window, scene.mirrored, size) for c in concept.components)
    return opaque, [_differs(full, other) & opaque for other in bare]


def masks(scene: Scene, kind: str, size: int = SIZE) -> dict[str, Mask]:
    """Masks of the concept without its component of this kind, and of that component, uint8 [S, S], 255 inside."""
    concept = scene.subjects[0]
    assert isinstance(concept, Concept)
    opaque, components = component_masks(scene, size)
    component = components[[c.kind for c in concept.components].index(kind)]
    return {"concept": (opaque & ~component).astype(np.uint8) * 255, "component": component.astype(np.uint8) * 255}
