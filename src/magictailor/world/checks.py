"""Captions that test attribute binding: each has two colours, and comes with the true scene."""

from dataclasses import dataclass, replace

import numpy as np

from magictailor.generation.protocol import CONTEXTS
from magictailor.world.captions import full_caption
from magictailor.world.catalog import CATALOG, CATEGORIES, Kind
from magictailor.world.scene import Component, Concept, Random, Scene, random_component, random_concept, random_stage

FIRST_SEED = 2_000_000_000  # of the seeds for checks, which no training uses


@dataclass(frozen=True)
class BindingCheck:
    """``caption`` names category, both colours, the component's variant and the context of ``scene``.

    ``component`` is the one in question. ``second`` has the other colour: another component's kind, or ``body`` (for
    persons, the skin).
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


def _second(rng: Random, concept: Concept, component: Component) -> Component | None:
    """Another component, of a kind that the whole category has; None if there is no such kind."""
    assert component.color is not None
    always = [k for k in concept.spec.kinds if k.worn == 1 and k.color is not None and k.part != component.spec.part]
    if not always:
        return None
    return random_component(rng, concept.category, always[0].name, (component.color.name, concept.color.name))


def binding_checks(count: int = 64) -> list[BindingCheck]:
    """Checks such as "a photo of a green monster with red curved horns, in the snow", always the same.

    Categories, kinds, variants and contexts take turns, so that all are equally frequent.
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
        variant = kind.trained[turn * 13 % len(kind.trained)]  # in turn, with neighbours of the list far apart
        component = random_component(rng, category.name, kind.name, (concept.color.name,), (variant,))
        second = _second(rng, concept, component)
        concept = replace(concept, components=(component,) if second is None else (component, second))
        scene = replace(random_stage(rng, (concept,)), context=contexts[i % len(contexts)])
        checks.append(BindingCheck(full_caption(scene), scene, component, "body" if second is None else second.kind))
    return checks


def component_checks() -> list[BindingCheck]:
    """Each word of each kind by itself: "a photo of a blue spiky hair"."""
    checks: list[BindingCheck] = []
    for category in CATALOG.values():
        for kind in category.kinds:
            first_of_word = {
                word: variant for variant, word in reversed(list(kind.variants.items())) if variant in kind.trained
            }
            for variant in first_of_word.values():
                rng = np.random.default_rng((FIRST_SEED + len(checks), 4))
                component = random_component(rng, category.name, kind.name, (), (variant,))
                scene = random_stage(rng, (component,))
                checks.append(BindingCheck(full_caption(scene), scene, component, ""))
    return checks
