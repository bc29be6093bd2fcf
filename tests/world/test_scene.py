"""Scenes: deterministic in any process, with all variants of the catalogue except those held out."""

import hashlib
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from magictailor.generation.protocol import PROMPTS
from magictailor.world.catalog import CATALOG, CELLS
from magictailor.world.render import render
from magictailor.world.scene import Component, Concept, Scene, random_concept, random_scene, same_place

PROTOCOL = {
    "on the beach", "in the jungle", "in the snow", "at night", "in autumn", "watercolor painting", "Ukiyo-e painting",
    "in Pixel Art style", "in Von Gogh style", "in a comic book", "with clouds in the background",
    "with flowers in the background", "near the Eiffel Tower", "on top of water", "in front of the Mount Fuji",
    "from 3D rendering", "in a far view", "in a close view", "made of clay", "made of plastic",
}  # fmt: skip
DIGEST = (
    "import hashlib; from magictailor.world.render import render; from magictailor.world.scene import random_scene; "
    "print(hashlib.sha256(b''.join(render(random_scene(s)).image.tobytes() for s in range(12))).hexdigest())"
)


def components(scene: Scene) -> list[Component]:
    found: list[Component] = []
    for subject in scene.subjects:
        found += [subject] if isinstance(subject, Component) else subject.components
    return found


def test_the_prompts_are_the_protocols() -> None:
    assert set(PROMPTS.values()) == PROTOCOL
    assert len(PROMPTS) == 20


def test_the_same_seeds_give_the_same_bytes_in_another_process() -> None:
    here = hashlib.sha256(b"".join(render(random_scene(s)).image.tobytes() for s in range(12))).hexdigest()
    there = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout.strip()
    assert here == there
    assert not np.array_equal(render(random_scene(7)).image, render(random_scene(8)).image)


def test_training_scenes_have_every_trained_variant_and_no_held_out_one() -> None:
    seen = Counter((c.category, c.kind, c.variant) for s in range(10_000) for c in components(random_scene(s)))
    kinds = [(category, CATALOG[category].kind(name)) for category, name in CELLS]
    assert set(seen) == {(category, kind.name, v) for category, kind in kinds for v in kind.trained}
    assert min(seen.values()) >= 15


def test_the_judges_scenes_have_the_held_out_variants_too() -> None:
    seen = {(c.category, c.kind, c.variant) for s in range(6_000) for c in components(random_scene(s, held_out=True))}
    assert seen >= {(c, k, v) for c, k in CELLS for v in CATALOG[c].kind(k).held_out}


def test_about_one_variant_in_six_is_held_out() -> None:
    kinds = [kind for category in CATALOG.values() for kind in category.kinds]
    held = [len(kind.held_out) / len(kind.variants) for kind in kinds if len(kind.variants) >= 6]
    assert 0.12 < np.mean(held) < 0.22
    assert all(set(kind.held_out) < set(kind.variants) for kind in kinds)


@pytest.mark.parametrize("category", CATALOG)
def test_a_concept_has_one_component_per_place_and_no_colour_twice(category: str) -> None:
    for seed in range(60):
        concept = random_concept(np.random.default_rng(seed), category)
        for i, first in enumerate(concept.components):
            assert not any(same_place(first, other) for other in concept.components[:i])
        colors = [c.color.name for c in concept.components if c.color is not None]
        assert len(set(colors)) == len(colors)
        always = {kind.name for kind in concept.spec.kinds if kind.worn == 1}
        assert always <= {c.kind for c in concept.components}


def test_wearing_replaces_the_component_in_the_same_place() -> None:
    rng = np.random.default_rng(0)
    concept = random_concept(rng, "person")
    hat = Component("person", "hat", "cap", concept.color)
    worn = concept.wearing(hat)
    assert hat in worn.components
    assert not any(c.kind == "hair" for c in worn.components)
    rest = [c for c in concept.components if c.kind not in ("hair", "hat")]
    assert [c for c in worn.components if c != hat] == rest
    horns = Component("monster", "horns", "horns", concept.color)  # another category's, on top of the head as well
    assert isinstance(worn.wearing(horns), Concept)
    assert hat not in worn.wearing(horns).components
