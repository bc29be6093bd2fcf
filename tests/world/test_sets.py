"""Sets with several components: the truth has all of them, and a run reads and learns them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.data import read_pair
from magictailor.generation.studies import study_prompts
from magictailor.world.pairs import RANGES
from magictailor.world.render import render
from magictailor.world.scene import place
from magictailor.world.sets import composite_scene, reference_scenes, world_set, write_set
from tiny import Call

SEEDS = range(RANGES["tuning"], RANGES["tuning"] + 12)


@pytest.mark.parametrize("components", [2, 3])
def test_the_composite_has_all_components_and_the_concept_others(components: int) -> None:
    categories = set()
    for seed in SEEDS:
        made = world_set(seed, components)
        assert made == world_set(seed, components)
        categories.add(made.concept.category)
        places = [place(c) for c in made.components]
        assert len(set(places)) == len(set(made.words)) - 1 == components
        worn = made.composite.components
        assert all(component in worn for component in made.components)
        assert len(worn) == len({place(c) for c in worn})
        assert not any(component in made.concept.components for component in made.components)
        for owner, component in zip(made.owners, made.components, strict=True):
            assert component in owner.components
            assert sum(other in owner.components for other in made.components) == 1
        colors = [c.color.name for c in made.components if c.color is not None]
        assert len(colors) == len(set(colors))
    assert len(categories) >= 2


def test_photos_of_a_component_are_of_its_owner_alone() -> None:
    made = world_set(SEEDS[1], 3)
    concepts, *parts = reference_scenes(made, (3, 2, 4, 1))
    assert [len(scenes) for scenes in (concepts, *parts)] == [3, 2, 4, 1]
    assert all(scene.subjects == (made.concept,) and scene.focus is None for scene in concepts)
    for owner, component, scenes in zip(made.owners, made.components, parts, strict=True):
        assert all(scene.subjects == (owner,) for scene in scenes)
        assert scenes[0].focus == component.kind


def test_a_written_set_is_a_pair_of_many_samples_with_unequal_numbers_of_photos(tmp_path: Path) -> None:
    made = world_set(SEEDS[0], 3)
    read = read_pair(write_set(made, tmp_path / "set", counts=(3, 1, 2, 1)))
    assert read.words == made.words
    assert [len(sample.references) for sample in read.samples] == [3, 1, 2, 1]
    for sample in read.samples:
        for reference in sample.references:
            covered = np.asarray(reference.mask).mean() / 255
            assert 0.002 < covered < 0.8, reference.path
    truth = np.asarray(Image.open(tmp_path / "set" / "truth" / "composite.png"))
    assert np.array_equal(truth, render(composite_scene(made)).image)
    concept, first, second, third = made.words
    assert study_prompts("decoupled", made.words) == [f"a photo of {w}" for w in (concept, first, second, third)]
    assert study_prompts("protocol", made.words)[0].startswith(f"{concept} with {first} and {second} and {third}, ")


def test_the_command_writes_sets_and_refuses_what_there_is_none_of(tmp_path: Path, call: Call) -> None:
    seed = ("--seed", SEEDS[0], "--output", tmp_path / "set")
    for options, words in (
        (("--components", 4), "--components 4"),
        (("--components", 0), "--components 0"),
        (("--components", 2, "--challenge", "plain"), "--challenge is for one component"),
    ):
        result = call("world", "pair", *seed, *options)
        assert (result.code, words in result.err, result.err.count("\n")) == (2, True, 1), result
        assert not (tmp_path / "set").exists()
    assert call("world", "pair", *seed, "--components", 2).code == 0
    assert len(read_pair(tmp_path / "set").samples) == 3
    with pytest.raises(InputError, match="out of range"):
        world_set(0, 5)
