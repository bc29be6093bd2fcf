"""Captions that tell whether a base binds: two colours each, and the truth beside them."""

from dataclasses import dataclass, replace

import numpy as np

from magictailor.generation.protocol import CONTEXTS
from magictailor.world.captions import full_caption
from magictailor.world.catalog import CATALOG, CATEGORIES, Kind
from magictailor.world.scene import Component, Concept, Random, Scene, random_component, random_concept, random_stage

FIRST_SEED = 2_000_000_000  # seeds from here on are nobody's: kept for checks


@dataclass(frozen=True)
class BindingCheck:
    """``caption`` names category, both colours, the component's variant and the context of ``scene``.

    ``component`` is the one that is asked about; ``second`` is what has the other colour: another component's kind, or
    ``body`` (of persons, the skin).
    """

    caption: str
    scene: Scene
    component: Component
    second: str

    @property
    def concept(self) -> Concept:
        concept = self.scene.subjects[0]
        assert isinstance(concept, Concept)
        return concept


def _second(rng: Random, concept: Concept, part: Component) -> Component | None:
    """Another component, of those that all of its category wear; None where there is none."""
    assert part.color is not None
    always = [k for k in concept.spec.kinds if k.worn == 1 and k.color is not None and k.part != part.spec.part]
    if not always:
        return None
    return random_component(rng, concept.category, always[0].name, (part.color.name, concept.color.name))


def binding_checks(count: int = 64) -> list[BindingCheck]:
    """ "a photo of a green monster with red curved horns, in the snow", and others of a fixed seed.

    Category, kind, variant and context each go round in turn, so that all are asked alike often.
    """
    checks = []
    contexts = [c for c in CONTEXTS if c != "night"]  # night changes colours
    turns: dict[tuple[str, str], int] = {}
    for i in range(count):
        rng = np.random.default_rng((FIRST_SEED + i, 3))
        category = CATALOG[CATEGORIES[i % len(CATEGORIES)]]
        kinds = [k for k in category.kinds if k.color is not None]
        kind: Kind = kinds[(i // len(CATEGORIES)) % len(kinds)]
        turn = turns[category.name, kind.name] = turns.get((category.name, kind.name), -1) + 1
        concept = random_concept(rng, category.name)
        variant = kind.trained[turn * 13 % len(kind.trained)]  # all in turn, neighbours of a list far apart
        part = random_component(rng, category.name, kind.name, (concept.color.name,), (variant,))
        second = _second(rng, concept, part)
        concept = replace(concept, components=(part,) if second is None else (part, second))
        scene = replace(random_stage(rng, (concept,)), context=contexts[i % len(contexts)])
        checks.append(BindingCheck(full_caption(scene), scene, part, "body" if second is None else second.kind))
    return checks


def component_checks() -> list[BindingCheck]:
    """Each word of each kind alone: "a photo of a blue spiky hair"."""
    checks: list[BindingCheck] = []
    for category in CATALOG.values():
        for kind in category.kinds:
            first_of_word = {
                word: variant for variant, word in reversed(list(kind.variants.items())) if variant in kind.trained
            }
            for variant in first_of_word.values():
                rng = np.random.default_rng((FIRST_SEED + len(checks), 4))
                part = random_component(rng, category.name, kind.name, (), (variant,))
                scene = random_stage(rng, (part,))
                checks.append(BindingCheck(full_caption(scene), scene, part, ""))
    return checks
