"""Pairs: four colours, masks that mean what they say, and a folder that the product reads."""

from pathlib import Path

import numpy as np
import pytest

from magictailor.data import read_pair
from magictailor.errors import InputError
from magictailor.world.pairs import (
    KINDS,
    composite_scene,
    concept_scene,
    masks,
    reference_scenes,
    seed_range,
    world_pair,
    write_pair,
)
from magictailor.world.render import render
from magictailor.world.scene import SLOTS
from magictailor.world.truth import cielab

FIRST = 10**8


def test_concept_own_component_owner_and_component_differ() -> None:
    kinds = set()
    for seed in range(FIRST, FIRST + 100):
        pair = world_pair(seed)
        own = pair.concept.own(pair.kind)
        names = (pair.concept.surface.name, own.surface.name, pair.owner.surface.name, pair.component.surface.name)
        assert len(set(names)) == 4
        assert own.style != pair.component.style
        assert pair.owner.own(pair.kind) == pair.component == pair.composite.own(pair.kind)
        assert all(c.kind in SLOTS[pair.concept.category] for c in pair.composite.components)
        kinds.add((pair.concept.category, pair.kind))
    assert kinds == set(KINDS)


def test_same_seed_same_pair() -> None:
    assert world_pair(FIRST + 3) == world_pair(FIRST + 3)
    assert world_pair(FIRST + 3) != world_pair(FIRST + 4)


def test_the_composite_differs_from_the_concept_in_the_component_alone() -> None:
    pair = world_pair(FIRST)
    composite, own = render(composite_scene(pair)), render(concept_scene(pair))
    changed = np.abs(composite.image.astype(int) - own.image.astype(int)).sum(-1) > 60
    touched = (masks(composite, pair.composite, pair.kind)["component"] > 0) | (
        masks(own, pair.concept, pair.kind)["component"] > 0
    )
    assert changed.sum() > 20
    assert (changed & ~touched).sum() == 0


@pytest.mark.parametrize(
    ("seed", "name"), [(5, "training"), (FIRST, "tuning"), (10**9, "bench"), (2 * 10**9, "checks")]
)
def test_seed_ranges(seed: int, name: str) -> None:
    assert seed_range(seed) == name


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="choose one in"):
        world_pair(-1)


def test_a_written_pair_is_read_back(tmp_path: Path) -> None:
    pair = world_pair(FIRST + 1)
    folder = write_pair(pair, tmp_path / "pair")
    read = read_pair(folder)
    assert [s.label for s in read.samples] == list(pair.labels)
    assert [s.word for s in read.samples] == list(pair.words)
    assert [len(s.references) for s in read.samples] == [3, 3]
    scenes, owners = reference_scenes(pair)
    assert np.array_equal(np.asarray(read.samples[0].references[0].image), render(scenes[0]).image)
    expected = masks(render(owners[1]), pair.owner, pair.kind)["component"]
    assert np.array_equal(np.asarray(read.samples[1].references[1].mask), expected)
    assert len(list((folder / "truth").glob("composite-*.png"))) == 20
    with pytest.raises(InputError, match="not empty"):
        write_pair(pair, folder)
    assert [p.name for p in tmp_path.iterdir()] == ["pair"]


def test_cielab_of_known_colours() -> None:
    known = {
        (255, 255, 255): (100, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 0, 255): (32.30, 79.19, -107.86),
    }
    for rgb, lab in known.items():
        assert np.allclose(cielab(np.array(rgb)), lab, atol=0.05)
