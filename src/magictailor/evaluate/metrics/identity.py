"""How far subjects in a picture are from those that were asked for, on the judge's readings.

The truth is read by the same judge from a true picture of the same prompt: a treatment that changes colours, or hides what
the judge would read, changes both.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from magictailor.world.colors import Floats
from magictailor.world.judgement import Cell, Judgement, SeenComponent, SeenConcept
from magictailor.world.pairs import WorldPair
from magictailor.world.scene import Component, Concept, same_place

COLOR_SCALE = 50.0  # CIELAB: from here on a colour is another one
DIFFERENT = 0.05  # two references nearer than this tell nothing about what lies between them


def color_error(seen: Floats, true: Floats) -> float:
    """Distance of two CIELAB colours over `COLOR_SCALE`, 0 .. 1."""
    return min(1.0, float(np.linalg.norm(seen - true)) / COLOR_SCALE)


def belief_error(seen: Floats, true: Floats) -> float:
    """Total variation between two beliefs about a variant, 0 .. 1: 0 the same, 1 surely another."""
    return float(np.abs(seen - true).sum() / 2)


def component_error(seen: SeenComponent | None, true: SeenComponent) -> float:
    """Mean of found (0 here), variant and colour, 0 .. 1; 1 where nothing is found.

    A component of another category's kind has another variant.
    """
    if seen is None:
        return 1.0
    alike = seen.category == true.category
    return float(
        np.mean([0.0, belief_error(seen.belief, true.belief) if alike else 1.0, color_error(seen.color, true.color)])
    )


def identity_error(seen: SeenConcept, true: SeenConcept) -> float:
    """Mean over the identity parts (face, pattern, shape), 0 .. 1; both of one category."""
    return float(np.mean([belief_error(seen.beliefs[part], belief) for part, belief in true.beliefs.items()]))


def components_error(
    seen: Mapping[Cell, SeenComponent], true: Mapping[Cell, SeenComponent], cells: Sequence[Cell]
) -> float | None:
    """Mean over these kinds, 0 .. 1: none in both is right, one in either is wrong. None without kinds."""
    errors = []
    for cell in cells:
        if cell in seen and cell in true:
            errors.append(component_error(seen[cell], true[cell]))
        else:
            errors.append(float(cell in seen or cell in true))
    return float(np.mean(errors)) if errors else None


def concept_parts(seen: Judgement, true: Judgement, category: str, cells: Sequence[Cell]) -> dict[str, float]:
    """The errors of a concept, each 0 .. 1: ``color`` of its body, ``identity`` of its face, pattern and shape, and
    ``components``, those of these kinds. Both pictures have the body."""
    body, truth = seen.concepts[category], true.concepts[category]
    parts = {"color": color_error(body.color, truth.color), "identity": identity_error(body, truth)}
    others = components_error(seen.components, true.components, cells)
    return parts if others is None else {**parts, "components": others}


def concept_error(seen: Judgement, true: Judgement, category: str, cells: Sequence[Cell]) -> float:
    """Mean of category and of `concept_parts`, 0 .. 1; 1 where the body is not found.

    ``cells``: the kinds of the concept's components beside the one that the prompt brings in.
    """
    if category not in seen.concepts:
        return 1.0
    wrong = float(seen.category != true.category)
    return float(np.mean([wrong, *concept_parts(seen, true, category, cells).values()]))


def concept_distance(seen: Judgement, other: Judgement, category: str, cells: Sequence[Cell]) -> float:
    """How unlike two concepts of one category are, 0 .. 1: the mean of `concept_parts`."""
    return float(np.mean(list(concept_parts(seen, other, category, cells).values())))


def other_cells(concept: Concept, component: Component) -> tuple[Cell, ...]:
    """Categories and kinds of a concept's components that are not in the place of this one."""
    return tuple((c.category, c.kind) for c in concept.components if not same_place(c, component))


def nearer(to_owner: Sequence[float], to_unrelated: Sequence[float], apart: Sequence[float]) -> float | None:
    """How much of the way from the truth to the owner a picture has gone, measured against unrelated instances.

    Args:
        to_owner: distances of the picture, and of the truth, to the owner.
        to_unrelated: the same to an unrelated instance.
        apart: the distance between owner and unrelated instance.

    Returns:
        0 for the truth, and on average for whatever has nothing of the owner; 1 for the owner itself; negative where
        the picture is nearer to the unrelated instance than the truth is. In -1 .. 1; None where owner and unrelated
        instance are alike.
    """
    before = to_unrelated[1] - to_owner[1]
    whole = apart[0] - before
    if whole < DIFFERENT:
        return None
    return float(np.clip((to_unrelated[0] - to_owner[0] - before) / whole, -1, 1))


def concept_pollution(
    seen: Judgement, true: Judgement, owner: Judgement, unrelated: Judgement, category: str, cells: Sequence[Cell]
) -> float | None:
    """How far the concept's colours, identity and further components are the owner's, see `nearer`.

    ``cells``: of all components that any of the three has beside the one that the prompt brings in. None where a body of
    the category is missing.
    """
    if any(category not in judgement.concepts for judgement in (seen, true, owner, unrelated)):
        return None

    def distances(other: Judgement) -> list[float]:
        return [concept_distance(picture, other, category, cells) for picture in (seen, true)]

    apart = concept_distance(owner, unrelated, category, cells)
    return nearer(distances(owner), distances(unrelated), [apart])


def component_pollution(
    seen: SeenComponent | None, true: SeenComponent | None, own: SeenComponent | None, unrelated: SeenComponent | None
) -> float | None:
    """How far the component is the concept's own one, see `nearer`. None where one is missing."""
    if seen is None or true is None or own is None or unrelated is None:
        return None

    def distances(other: SeenComponent) -> list[float]:
        return [component_error(seen, other), component_error(true, other)]

    return nearer(distances(own), distances(unrelated), [component_error(own, unrelated)])


def place_leakage(seen: Judgement, asked_context: str, owner_context: str) -> float | None:
    """Whether the picture is where the owner's photos are; None where the prompt asks for that place."""
    return None if asked_context == owner_context else float(seen.context == owner_context)


def extra_leakage(seen: Judgement, true: Judgement, pair: WorldPair) -> float | None:
    """The share of the owner's further components that have come along; None where it has none that the truth lacks."""
    kinds = {kind for _, kind in other_cells(pair.owner, pair.component)}
    extra = [kind for kind in sorted(kinds) if true.component(kind) is None]
    return float(np.mean([seen.component(kind) is not None for kind in extra])) if extra else None


def imbalance(errors: Sequence[float], chance: Sequence[float]) -> float:
    """The gap between the two sides' errors, each as a share of ``chance``, what an unrelated instance would have, 0 .. 1."""
    first, second = (min(1.0, error / max(level, DIFFERENT)) for error, level in zip(errors, chance, strict=True))
    return abs(first - second)
