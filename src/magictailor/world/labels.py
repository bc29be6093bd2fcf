"""Labels of a rendered scene for the judge: the class of each pixel, and the variants of the subjects.

Worker processes make them, so nothing here needs torch.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from magictailor.generation.protocol import CONTEXTS, TREATMENTS, VIEWS
from magictailor.world.art import render_component
from magictailor.world.catalog import CATALOG, CATEGORIES, CELLS
from magictailor.world.pairs import LARGE, RANGES, SMALL
from magictailor.world.render import OPAQUE, SIZE, component_masks, render, window_of
from magictailor.world.scene import TOP_PARTS, Component, Concept, Random, Scene, choose, random_component, random_scene

NOTHING = "nothing"
# Classes of pixels: bodies by category, then components by category and kind.
CLASSES = (NOTHING, *CATEGORIES, *(f"{category} {kind}" for category, kind in CELLS))
BODIES = {category: CLASSES.index(category) for category in CATEGORIES}
COMPONENTS = {cell: CLASSES.index(f"{cell[0]} {cell[1]}") for cell in CELLS}
CONTEXT_NAMES = ("plain", *CONTEXTS)
TREATMENT_NAMES = ("none", *TREATMENTS)
VIEW_NAMES = ("none", *VIEWS)
IMAGE_HEADS = (CONTEXT_NAMES, TREATMENT_NAMES, VIEW_NAMES)
UNKNOWN = 255  # the label is unknown or does not apply
COMPONENT_AREA = 24  # fewest pixels of 128 x 128 that identify a component's variant
BODY_AREA = 200  # fewest pixels of 128 x 128 that identify a body
SIZES = (SMALL, 1.15, LARGE)  # few, since each size is a style that is kept in memory
TRANSPLANTED, RESIZED = 0.08, 0.06  # fractions of the judge's scenes with such a component; the base has none
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Head:
    """A classifier of variants: of a category's component of kind ``part``, or of its identity part ``part``.

    ``classes``: the variants. ``region``: the classes of the pixels that it reads.
    """

    category: str
    part: str
    classes: tuple[str, ...]
    region: tuple[int, ...]
    component: bool


def _all_heads() -> tuple[Head, ...]:
    heads = []
    for name, category in CATALOG.items():
        whole = (BODIES[name], *(COMPONENTS[name, kind.name] for kind in category.kinds))
        for kind in category.kinds:
            heads.append(Head(name, kind.name, tuple(kind.variants), (COMPONENTS[name, kind.name],), True))
        for part, variants in category.identity.items():
            different = tuple(dict.fromkeys(variants))
            if len(different) > 1:
                heads.append(Head(name, part, different, whole, False))
    return tuple(heads)


HEADS = _all_heads()
VARIANT_HEADS = {(h.category, h.part): i for i, h in enumerate(HEADS) if h.component}
IDENTITY_HEADS = {(h.category, h.part): i for i, h in enumerate(HEADS) if not h.component}
TARGETS = len(HEADS) + len(IMAGE_HEADS)
ROW = SIZE * SIZE * 4 + TARGETS  # bytes of a labelled render


class Labels(NamedTuple):
    """``image`` uint8 [S, S, 3]; ``classes`` uint8 [S, S], indices of `CLASSES`; ``targets`` uint8 [TARGETS].

    Targets are class indices of `HEADS`, then of `IMAGE_HEADS`; `UNKNOWN` where a head does not apply.
    """

    image: Bytes
    classes: Bytes
    targets: Bytes

    def row(self) -> Bytes:
        """All arrays as one row of bytes, [ROW] at the world's size."""
        pixels = np.concatenate([self.image, self.classes[..., None]], -1)
        return np.concatenate([pixels.reshape(-1), self.targets])


def from_row(row: Bytes, size: int = SIZE) -> Labels:
    """The inverse of `Labels.row`."""
    pixels = row[:-TARGETS].reshape(size, size, 4)
    return Labels(pixels[..., :3], pixels[..., 3], row[-TARGETS:])


def _concept_classes(scene: Scene, index: int, size: int) -> Bytes:
    """The classes of the ``index``-th subject's pixels, [S, S]. Small components are on top."""
    concept = scene.subjects[index]
    assert isinstance(concept, Concept)
    opaque, components = component_masks(scene, size, index)
    classes = np.where(opaque, BODIES[concept.category], 0).astype(np.uint8)
    for component, inside in sorted(zip(concept.components, components), key=lambda pair: -int(pair[1].sum())):
        classes[inside] = COMPONENTS[component.category, component.kind]
    return classes


def _component_classes(component: Component, scene: Scene, index: int, size: int) -> Bytes:
    layer = render_component(component, window_of(scene, index), scene.mirrored, size)
    return np.where(layer[..., 3] > OPAQUE, COMPONENTS[component.category, component.kind], 0).astype(np.uint8)


def pixel_classes(scene: Scene, size: int = SIZE) -> Bytes:
    """The class of each pixel, uint8 [S, S], indices of `CLASSES`."""
    classes = np.zeros((size, size), np.uint8)
    for i, subject in enumerate(scene.subjects):
        if isinstance(subject, Concept):
            own = _concept_classes(scene, i, size)
        else:
            own = _component_classes(subject, scene, i, size)
        classes = np.where(own > 0, own, classes)
    return classes


def _component_targets(component: Component, areas: NDArray[np.intp], unit: float, targets: Bytes) -> None:
    if areas[COMPONENTS[component.category, component.kind]] >= COMPONENT_AREA * unit:
        head = VARIANT_HEADS[component.category, component.kind]
        targets[head] = HEADS[head].classes.index(component.variant)


def _identity_targets(concept: Concept, targets: Bytes) -> None:
    replaced = {c.spec.part for c in concept.components if c.category == concept.category}
    for part, variant in concept.identity:
        head = IDENTITY_HEADS.get((concept.category, part))
        if head is not None and part not in replaced:
            targets[head] = HEADS[head].classes.index(variant)


def image_targets(scene: Scene) -> tuple[int, int, int]:
    """Context, treatment and view, indices of `IMAGE_HEADS`.

    The view is `UNKNOWN` unless the scene shows one whole concept.
    """
    whole = len(scene.subjects) == 1 and scene.focus is None and isinstance(scene.subjects[0], Concept)
    view = VIEW_NAMES.index(scene.view or "none") if whole else UNKNOWN
    return CONTEXT_NAMES.index(scene.context), TREATMENT_NAMES.index(scene.treatment or "none"), view


def head_targets(scene: Scene, classes: Bytes) -> Bytes:
    """Targets of all heads, uint8 [TARGETS]. Two subjects of one category have unknown variants."""
    targets = np.full(TARGETS, UNKNOWN, np.uint8)
    targets[len(HEADS) :] = image_targets(scene)
    areas, unit = np.bincount(classes.reshape(-1), minlength=len(CLASSES)), classes.size / SIZE**2
    categories = [subject.category for subject in scene.subjects]
    for subject in scene.subjects:
        if categories.count(subject.category) > 1:
            continue
        for component in subject.components if isinstance(subject, Concept) else (subject,):
            _component_targets(component, areas, unit, targets)
        whole = isinstance(subject, Concept) and scene.focus is None
        if whole and areas[BODIES[subject.category]] >= BODY_AREA * unit:
            assert isinstance(subject, Concept)
            _identity_targets(subject, targets)
    return targets


def label_scene(scene: Scene, size: int = SIZE) -> Labels:
    """Render and label the scene. Treatments and the night change only the image."""
    classes = pixel_classes(scene, size)
    return Labels(render(scene, size).image, classes, head_targets(scene, classes))


def _alter(rng: Random, concept: Concept) -> Concept:
    """Sometimes give the concept a component as in the challenges ``category`` and ``size``."""
    share = rng.random()
    if share < TRANSPLANTED and concept.category in TOP_PARTS:
        category = choose(rng, [c for c in TOP_PARTS if c != concept.category])
        kind = choose(rng, [k for k in CATALOG[category].kinds if k.part == TOP_PARTS[category]])
        return concept.wearing(random_component(rng, category, kind.name, (), tuple(kind.variants)))
    if share < TRANSPLANTED + RESIZED and concept.components:
        component = choose(rng, concept.components)
        return concept.wearing(replace(component, size=choose(rng, SIZES)))
    return concept


def judge_scene(seed: int) -> Scene:
    """The judge's training scene of this seed: also with held-out variants, transplanted and resized components."""
    scene = random_scene(seed, held_out=True)
    if len(scene.subjects) == 1 and isinstance(scene.subjects[0], Concept) and scene.focus is None:
        return replace(scene, subjects=(_alter(np.random.default_rng((seed, 9)), scene.subjects[0]),))
    return scene


def labelled_rows(first: int, count: int) -> Bytes:
    """Rows of the scenes with successive seeds from ``first``, uint8 [count, ROW]."""
    return np.stack([label_scene(judge_scene(seed)).row() for seed in range(first, first + count)])


def held_out_seeds(count: int, skip: int = 0) -> range:
    """Seeds that no training uses."""
    first = RANGES["checks"] + skip
    return range(first, first + count)
