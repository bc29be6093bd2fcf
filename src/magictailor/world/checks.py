"""Captions that tell whether a base binds: two colours each, and the truth beside them."""

from dataclasses import dataclass, replace

import numpy as np

from magictailor.world.captions import full_caption
from magictailor.world.scene import (
    CATEGORIES,
    CONTEXTS,
    SLOTS,
    STYLES,
    Concept,
    Scene,
    random_component,
    random_concept,
    random_stage,
)

FIRST_SEED = 2_000_000_000  # seeds from here on are nobody's: kept for checks


@dataclass(frozen=True)
class BindingCheck:
    """``caption`` names category, both colours, the component's style and the context of ``scene``."""

    caption: str
    scene: Scene


def binding_checks(count: int = 48) -> list[BindingCheck]:
    """ "a photo of a green tower with red pointed roof, in the snow", and others of a fixed seed.

    Category, component and its style, and context each go round in turn, so that all are asked alike often.
    """
    checks = []
    contexts = [c for c in CONTEXTS if c != "night"]  # night darkens colours beyond telling
    for i in range(count):
        rng = np.random.default_rng((FIRST_SEED + i, 3))
        category = CATEGORIES[i % len(CATEGORIES)]
        kinds = SLOTS[category]
        kind = kinds[(i // len(CATEGORIES)) % len(kinds)]
        concept = random_concept(rng, category)
        part = random_component(rng, kind, exclude=(concept.surface.name,))
        part = replace(part, style=STYLES[kind][(i // 2) % 4], surface=replace(part.surface, pattern="plain"))
        concept = replace(concept, surface=replace(concept.surface, pattern="plain"), components=(part,))
        scene = replace(random_stage(rng, (concept,)), context=contexts[i % len(contexts)])
        checks.append(BindingCheck(full_caption(scene), scene))
    return checks


def component_checks() -> list[BindingCheck]:
    """Each component and style alone: "a photo of a blue spiky hair"."""
    checks = []
    for i, (kind, style) in enumerate((k, s) for k, styles in STYLES.items() for s in styles):
        rng = np.random.default_rng((FIRST_SEED + i, 4))
        part = random_component(rng, kind)
        part = replace(part, style=style, surface=replace(part.surface, pattern="plain"))
        scene = random_stage(rng, (part,))
        checks.append(BindingCheck(full_caption(scene), scene))
    return checks


def concept_of(check: BindingCheck) -> Concept:
    """The concept of a binding check."""
    thing = check.scene.things[0]
    assert isinstance(thing, Concept)
    return thing
