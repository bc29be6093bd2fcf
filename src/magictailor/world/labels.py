"""What is true of a scene's picture: which class each pixel shows, and which variants its subjects have.

The judge learns these labels. Nothing here needs torch: worker processes draw them.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from magictailor.generation.protocol import CONTEXTS, TREATMENTS, VIEWS
from magictailor.world.art import draw_component
from magictailor.world.catalog import CATALOG, CATEGORIES, CELLS
from magictailor.world.pairs import LARGE, RANGES, SMALL
from magictailor.world.render import OPAQUE, SIZE, component_masks, render, window_of
from magictailor.world.scene import TOP_PARTS, Component, Concept, Random, Scene, choose, random_component, random_scene

NOTHING = "nothing"
# Bodies by category, then components by category and kind: what a pixel can show.
CLASSES = (NOTHING, *CATEGORIES, *(f"{category} {kind}" for category, kind in CELLS))
BODIES = {category: CLASSES.index(category) for category in CATEGORIES}
COMPONENTS = {cell: CLASSES.index(f"{cell[0]} {cell[1]}") for cell in CELLS}
CONTEXT_NAMES = ("plain", *CONTEXTS)
TREATMENT_NAMES = ("none", *TREATMENTS)
VIEW_NAMES = ("none", *VIEWS)
PICTURE_HEADS = (CONTEXT_NAMES, TREATMENT_NAMES, VIEW_NAMES)
UNKNOWN = 255  # a label that is not known, or does not apply
SEEN = 24  # pixels of 128 x 128 from which on a component's variant can be asked
WHOLE = 200  # pixels of 128 x 128 from which on a body's identity can be asked
SIZES = (SMALL, 1.15, LARGE)  # few: a size is a style of its own, which is kept in memory
TRANSPLANTED, RESIZED = 0.08, 0.06  # shares of the judge's pictures with such a component, which the base never sees
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Head:
    """One question about a category: which variant its component of kind ``part`` has, or its identity part ``part``.

    ``classes``: the variants. ``region``: the classes of pixels that show the answer.
    """

    category: str
    part: str
    classes: tuple[str, ...]
    region: tuple[int, ...]
    component: bool


def _heads() -> tuple[Head, ...]:
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


HEADS = _heads()
VARIANT_HEADS = {(h.category, h.part): i for i, h in enumerate(HEADS) if h.component}
IDENTITY_HEADS = {(h.category, h.part): i for i, h in enumerate(HEADS) if not h.component}
TARGETS = len(HEADS) + len(PICTURE_HEADS)
ROW = SIZE * SIZE * 4 + TARGETS  # bytes of a labelled picture


class Labels(NamedTuple):
    """``image`` uint8 [S, S, 3]; ``classes`` uint8 [S, S], indices of `CLASSES`; ``targets`` uint8 [TARGETS].

    Targets are the classes of `HEADS`, then of `PICTURE_HEADS`; `UNKNOWN` where one does not apply.
    """

    image: Bytes
    classes: Bytes
    targets: Bytes

    def row(self) -> Bytes:
        """All of it as one row of bytes, [ROW] at the world's size."""
        picture = np.concatenate([self.image, self.classes[..., None]], -1)
        return np.concatenate([picture.reshape(-1), self.targets])


def from_row(row: Bytes, size: int = SIZE) -> Labels:
    """The inverse of `Labels.row`."""
    picture = row[:-TARGETS].reshape(size, size, 4)
    return Labels(picture[..., :3], picture[..., 3], row[-TARGETS:])


def _concept_classes(scene: Scene, index: int, size: int) -> Bytes:
    """What each pixel shows of the ``index``-th subject, [S, S]. Small components are on top."""
    concept = scene.subjects[index]
    assert isinstance(concept, Concept)
    opaque, parts = component_masks(scene, size, index)
    classes = np.where(opaque, BODIES[concept.category], 0).astype(np.uint8)
    for component, inside in sorted(zip(concept.components, parts), key=lambda part: -int(part[1].sum())):
        classes[inside] = COMPONENTS[component.category, component.kind]
    return classes


def _component_classes(component: Component, scene: Scene, index: int, size: int) -> Bytes:
    layer = draw_component(component, window_of(scene, index), scene.mirrored, size)
    return np.where(layer[..., 3] > OPAQUE, COMPONENTS[component.category, component.kind], 0).astype(np.uint8)


def pixel_classes(scene: Scene, size: int = SIZE) -> Bytes:
    """What each pixel shows, uint8 [S, S], indices of `CLASSES`."""
    classes = np.zeros((size, size), np.uint8)
    for i, subject in enumerate(scene.subjects):
        if isinstance(subject, Concept):
            own = _concept_classes(scene, i, size)
        else:
            own = _component_classes(subject, scene, i, size)
        classes = np.where(own > 0, own, classes)
    return classes


def _component_targets(component: Component, areas: NDArray[np.intp], unit: float, targets: Bytes) -> None:
    if areas[COMPONENTS[component.category, component.kind]] >= SEEN * unit:
        head = VARIANT_HEADS[component.category, component.kind]
        targets[head] = HEADS[head].classes.index(component.variant)


def _identity_targets(concept: Concept, targets: Bytes) -> None:
    replaced = {c.spec.part for c in concept.components if c.category == concept.category}
    for part, variant in concept.identity:
        head = IDENTITY_HEADS.get((concept.category, part))
        if head is not None and part not in replaced:
            targets[head] = HEADS[head].classes.index(variant)


def picture_targets(scene: Scene) -> tuple[int, int, int]:
    """Context, treatment and view, indices of `PICTURE_HEADS`.

    The view is `UNKNOWN` but for one whole concept: of anything else it cannot be seen.
    """
    whole = len(scene.subjects) == 1 and scene.focus is None and isinstance(scene.subjects[0], Concept)
    view = VIEW_NAMES.index(scene.view or "none") if whole else UNKNOWN
    return CONTEXT_NAMES.index(scene.context), TREATMENT_NAMES.index(scene.treatment or "none"), view


def head_targets(scene: Scene, classes: Bytes) -> Bytes:
    """The answers of `HEADS` and of the picture, uint8 [TARGETS]. Of two subjects of one category nothing is asked."""
    targets = np.full(TARGETS, UNKNOWN, np.uint8)
    targets[len(HEADS) :] = picture_targets(scene)
    areas, unit = np.bincount(classes.reshape(-1), minlength=len(CLASSES)), classes.size / SIZE**2
    categories = [subject.category for subject in scene.subjects]
    for subject in scene.subjects:
        if categories.count(subject.category) > 1:
            continue
        for component in subject.components if isinstance(subject, Concept) else (subject,):
            _component_targets(component, areas, unit, targets)
        whole = isinstance(subject, Concept) and scene.focus is None
        if whole and areas[BODIES[subject.category]] >= WHOLE * unit:
            assert isinstance(subject, Concept)
            _identity_targets(subject, targets)
    return targets


def labelled(scene: Scene, size: int = SIZE) -> Labels:
    """The scene's picture with its labels. Treatments and the night change the picture alone."""
    classes = pixel_classes(scene, size)
    return Labels(render(scene, size).image, classes, head_targets(scene, classes))


def _altered(rng: Random, concept: Concept) -> Concept:
    """The concept as pairs of the challenges `category` and `size` have them, now and then."""
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
    """A picture of the judge's training: held-out variants, transplanted and resized components too."""
    scene = random_scene(seed, held_out=True)
    if len(scene.subjects) == 1 and isinstance(scene.subjects[0], Concept) and scene.focus is None:
        return replace(scene, subjects=(_altered(np.random.default_rng((seed, 9)), scene.subjects[0]),))
    return scene


def labelled_rows(first: int, count: int) -> Bytes:
    """The pictures of `judge_scene` with these successive seeds, uint8 [count, ROW]."""
    return np.stack([labelled(judge_scene(seed)).row() for seed in range(first, first + count)])


def held_out_seeds(count: int, skip: int = 0) -> range:
    """Seeds of pictures that no training sees."""
    first = RANGES["checks"] + skip
    return range(first, first + count)
