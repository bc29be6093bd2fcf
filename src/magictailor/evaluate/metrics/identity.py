"""Errors, pollution and leakage of subjects in an image, from the judge's readings.

The same judge also reads a true image of the same prompt: a treatment that changes colours or hides a subject changes both
readings.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from magictailor.world.colors import Floats
from magictailor.world.judgement import Cell, Judgement, SeenComponent, SeenConcept
from magictailor.world.pairs import WorldPair
from magictailor.world.scene import Component, Concept, same_place

COLOR_SCALE = 50.0  # CIELAB distance of an error of 1
MIN_DISTANCE = 0.05  # smaller distances are too noisy to divide by


def color_error(seen: Floats, true: Floats) -> float:
    """Distance of two CIELAB colours over `COLOR_SCALE`, 0 .. 1."""
    return min(1.0, float(np.linalg.norm(seen - true)) / COLOR_SCALE)


def belief_error(seen: Floats, true: Floats) -> float:
    """Total variation distance of two beliefs about a variant, 0 .. 1."""
    return float(np.abs(seen - true).sum() / 2)


def component_error(seen: SeenComponent | None, true: SeenComponent) -> float:
    """Mean of found (0 here), variant and colour, 0 .. 1; 1 if it is not found.

    The variant error is 1 if the category differs.
    """
    if seen is None:
        return 1.0
    variant = belief_error(seen.belief, true.belief) if seen.category == true.category else 1.0
    return float(np.mean([0.0, variant, color_error(seen.color, true.color)]))


def identity_error(seen: SeenConcept, true: SeenConcept) -> float:
    """Mean over the identity parts (face, pattern, shape), 0 .. 1; both are of one category."""
    return float(np.mean([belief_error(seen.beliefs[part], belief) for part, belief in true.beliefs.items()]))


def components_error(
    seen: Mapping[Cell, SeenComponent], true: Mapping[Cell, SeenComponent], cells: Sequence[Cell]
) -> float | None:
    """Mean error over these cells, 0 .. 1: 0 if missing from both, 1 if missing from one. None without cells."""
    errors = []
    for cell in cells:
        if cell in seen and cell in true:
            errors.append(component_error(seen[cell], true[cell]))
        else:
            errors.append(float(cell in seen or cell in true))
    return float(np.mean(errors)) if errors else None


def concept_errors(seen: Judgement, true: Judgement, category: str, cells: Sequence[Cell]) -> dict[str, float]:
    """A concept's errors, each 0 .. 1: ``color`` of its body, ``identity`` (face, pattern, shape), ``components`` in these
    cells. Both images have the body."""
    body, truth = seen.concepts[category], true.concepts[category]
    errors = {"color": color_error(body.color, truth.color), "identity": identity_error(body, truth)}
    others = components_error(seen.components, true.components, cells)
    return errors if others is None else {**errors, "components": others}


def concept_error(seen: Judgement, true: Judgement, category: str, cells: Sequence[Cell]) -> float:
    """Mean of the category's error and of `concept_errors`, 0 .. 1; 1 if the body is not found.

    ``cells``: of the concept's components, without the one that the prompt adds.
    """
    if category not in seen.concepts:
        return 1.0
    wrong = float(seen.category != true.category)
    return float(np.mean([wrong, *concept_errors(seen, true, category, cells).values()]))


def concept_distance(seen: Judgement, other: Judgement, category: str, cells: Sequence[Cell]) -> float:
    """Distance of two concepts of one category, 0 .. 1: the mean of `concept_errors`."""
    return float(np.mean(list(concept_errors(seen, other, category, cells).values())))


def other_cells(concept: Concept, component: Component) -> tuple[Cell, ...]:
    """Category and kind of the concept's components that are in other places than ``component``."""
    return tuple((c.category, c.kind) for c in concept.components if not same_place(c, component))


def relative_shift(to_owner: Sequence[float], to_unrelated: Sequence[float], owner_to_unrelated: float) -> float | None:
    """How far an image has moved from the truth to the owner, compared with an unrelated instance.

    Args:
        to_owner: distances of the image, and of the truth, to the owner.
        to_unrelated: the same to an unrelated instance.
        owner_to_unrelated: distance of owner and unrelated instance.

    Returns:
        -1 .. 1. 0 for the truth, and on average for an image that has nothing of the owner; 1 for the owner itself;
        negative if the image is nearer to the unrelated instance than the truth is. None if owner and unrelated instance
        are alike.
    """
    at_truth = to_unrelated[1] - to_owner[1]
    whole = owner_to_unrelated - at_truth
    if whole < MIN_DISTANCE:
        return None
    return float(np.clip((to_unrelated[0] - to_owner[0] - at_truth) / whole, -1, 1))


def concept_pollution(
    seen: Judgement, true: Judgement, owner: Judgement, unrelated: Judgement, category: str, cells: Sequence[Cell]
) -> float | None:
    """Shift of the concept's colours, identity and other components to the owner's, see `relative_shift`.

    ``cells``: of all components that the concept, the owner or the unrelated owner has, without the one that the prompt
    adds. None if one image has no body of the category.
    """
    if any(category not in judgement.concepts for judgement in (seen, true, owner, unrelated)):
        return None

    def distances(other: Judgement) -> list[float]:
        return [concept_distance(image, other, category, cells) for image in (seen, true)]

    apart = concept_distance(owner, unrelated, category, cells)
    return relative_shift(distances(owner), distances(unrelated), apart)


def component_pollution(
    seen: SeenComponent | None, true: SeenComponent | None, own: SeenComponent | None, unrelated: SeenComponent | None
) -> float | None:
    """Shift of the component to the concept's own, see `relative_shift`. None if one is missing."""
    if seen is None or true is None or own is None or unrelated is None:
        return None

    def distances(other: SeenComponent) -> list[float]:
        return [component_error(seen, other), component_error(true, other)]

    return relative_shift(distances(own), distances(unrelated), component_error(own, unrelated))


def place_leakage(seen: Judgement, requested_context: str, owner_context: str) -> float | None:
    """1 if the image has the context of the owner's photos, else 0; None if the prompt requests that context."""
    return None if requested_context == owner_context else float(seen.context == owner_context)


def extra_leakage(seen: Judgement, true: Judgement, pair: WorldPair) -> float | None:
    """The share of the owner's other components that are in the image; None if all of them are in the true image too."""
    kinds = {kind for _, kind in other_cells(pair.owner, pair.component)}
    extra = [kind for kind in sorted(kinds) if true.component(kind) is None]
    return float(np.mean([seen.component(kind) is not None for kind in extra])) if extra else None


def imbalance(errors: Sequence[float], chance: Sequence[float]) -> float:
    """Difference of the concept's and the component's error, each as a share of ``chance``, 0 .. 1.

    ``chance``: the errors that an unrelated instance would have.
    """
    first, second = (min(1.0, error / max(level, MIN_DISTANCE)) for error, level in zip(errors, chance, strict=True))
    return abs(first - second)
