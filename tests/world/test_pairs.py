"""Pairs: properties of each challenge, cells in turn, and folders that `read_pair` reads."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.data import read_pair
from magictailor.world.catalog import CATALOG, CATEGORIES, KINDS
from magictailor.world.pairs import (
    CHALLENGES,
    LARGE,
    SMALL,
    SMALL_KINDS,
    composite_scene,
    concept_scene,
    reference_scenes,
    seed_range,
    world_pair,
    write_pair,
)
from magictailor.world.render import masks, render, subject_layers
from magictailor.world.scene import same_place

TUNING = 10**8


def test_a_range_of_seeds_goes_round_in_challenges_categories_and_kinds() -> None:
    pairs = [world_pair(TUNING + i) for i in range(120)]
    assert set(Counter(p.challenge for p in pairs).values()) == {20}
    assert {p.labels[0] for p in pairs if p.challenge != "category"} == set(CATEGORIES)
    assert {p.kind for p in pairs} == set(KINDS)
    plain = [world_pair(TUNING + i, "plain") for i in range(21)]
    assert len({p.labels for p in plain}) == 21
    assert all(a.labels[0] != b.labels[0] for a, b in pairwise(plain))
    assert world_pair(TUNING + 3) == pairs[3]


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_pairs_of_every_challenge_have_its_properties(challenge: str) -> None:
    for seed in range(TUNING, TUNING + 14):
        pair = world_pair(seed, challenge)
        concept, component, owner = pair.concept, pair.component, pair.owner
        assert pair.challenge == challenge
        assert component in owner.components
        assert component in pair.composite.components
        assert component not in concept.components
        if component.color is not None:
            assert component.color.name not in [c.color.name for c in concept.components if c.color is not None]
        assert pair.held_out == (challenge == "novel")
        if challenge == "category":
            assert concept.category != component.category == owner.category
            continue
        own = concept.own(pair.kind)
        assert concept.category == owner.category == component.category
        assert own.word != component.word
        if challenge == "polluting":
            places = {c.spec.part for c in owner.components}
            assert places == {kind.part for kind in CATALOG[owner.category].kinds}  # it has all possible components
            scenes = reference_scenes(pair)[1]
            assert len({(s.context, s.mirrored, s.noise) for s in scenes}) == 1
        elif challenge == "unequal" and pair.kind in SMALL_KINDS:
            assert len(concept.components) == len({kind.part for kind in concept.spec.kinds})
        elif challenge == "size":
            assert (own.size, component.size) == (SMALL, LARGE)


def test_the_composite_is_the_concept_but_for_the_component() -> None:
    for seed in range(TUNING, TUNING + 12):
        pair = world_pair(seed)
        kept = [c for c in pair.concept.components if not same_place(c, pair.component)]
        assert [c for c in pair.composite.components if c != pair.component] == kept
        assert (pair.composite.identity, pair.composite.color) == (pair.concept.identity, pair.concept.color)
        if pair.challenge in ("size", "category"):
            continue
        one, other = (subject_layers(s)[0].astype(int) for s in (composite_scene(pair), concept_scene(pair)))
        bare = subject_layers(
            composite_scene(pair).__class__((pair.concept.without(pair.component),), noise=seed % 2**31)
        )[0]
        changed = (one != other).any(-1)
        touched = (one != bare.astype(int)).any(-1) | (other != bare.astype(int)).any(-1)
        assert not (changed & ~touched).any()


def test_photos_show_the_component_close_up_and_its_whole_owner() -> None:
    for seed in range(TUNING, TUNING + 6):
        pair = world_pair(seed)
        scenes = reference_scenes(pair)[1]
        assert [s.focus for s in scenes] == [pair.kind, pair.kind, None]
        assert all(masks(s, pair.kind)["component"].any() for s in scenes)
        close, whole = (render(replace(s, context="plain")).inside.mean() for s in scenes[1:])
        assert close != whole
        assert all(s.context != "night" for s in scenes)


def test_a_written_pair_is_read_back_with_its_masks_and_truth(tmp_path: Path) -> None:
    pair = world_pair(TUNING + 1)
    folder = write_pair(pair, tmp_path / "pair")
    read = read_pair(folder)
    assert [s.label for s in read.samples] == list(pair.labels)
    assert all(len(s.references) == 3 for s in read.samples)
    attributes = json.loads((folder / "truth" / "attributes.json").read_text("utf-8"))
    assert attributes["challenge"] == pair.challenge
    assert attributes["words"] == list(pair.words)
    assert all("close-up" in text for text in attributes["captions"]["component"][:2])
    assert len(list((folder / "truth").glob("composite-*.png"))) == 20
    mask = np.asarray(Image.open(folder / "masks" / f"1_{pair.kind}_a0.png"))
    assert set(np.unique(mask)) == {0, 255}
    with pytest.raises(InputError):
        write_pair(pair, tmp_path / "pair")


def test_seeds_have_a_use() -> None:
    names = [seed_range(s) for s in (0, 10**8 - 1, 10**8, 10**9, 2 * 10**9, 2**32 - 1)]
    assert names == ["training", "training", "tuning", "bench", "checks", "checks"]
    for seed in (-1, 2**32):
        with pytest.raises(InputError):
            seed_range(seed)
