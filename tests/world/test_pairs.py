"""Pairs: four colours, masks that mean what they say, and a folder that the product reads."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magictailor.data import read_pair
from magictailor.errors import InputError
from magictailor.world.pairs import (
    KINDS,
    component_scene,
    composite_scene,
    concept_scene,
    masks,
    reference_scenes,
    seed_range,
    world_pair,
    write_pair,
)
from magictailor.world.render import render
from magictailor.world.scene import CONTEXTS, PROMPTS, SLOTS, TREATMENTS, VIEWS, Scene
from magictailor.world.truth import cielab, nearest_alternative

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


def test_renders_are_judged_as_what_they_are() -> None:
    pair, others = world_pair(FIRST), [world_pair(FIRST + 2), world_pair(FIRST + 4)]
    judged = [
        nearest_alternative(Image.fromarray(render(scene).image), pair, others)
        for scene in (composite_scene(pair), concept_scene(pair), Scene((pair.owner,)), composite_scene(others[1]))
    ]
    assert judged == ["composite", "own", "owner", f"other:{others[1].seed}"]


def test_the_component_shows_twenty_pixels_in_the_composite_and_shares_none() -> None:
    for seed in range(FIRST, FIRST + 200):
        pair = world_pair(seed)
        both = masks(render(composite_scene(pair)), pair.composite, pair.kind)
        assert (both["component"] > 127).sum() >= 20, seed
        assert (both["concept"].astype(int) + both["component"]).max() <= 256, seed
        assert (pair.owner.category, pair.owner.surface) != (pair.concept.category, pair.concept.surface)


def test_a_pair_whose_component_is_too_small_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = range(FIRST, FIRST + 10)
    before = [world_pair(s) for s in seeds]
    monkeypatch.setattr("magictailor.world.pairs.SMALLEST", 250)
    after = [world_pair(s) for s in seeds]
    assert 0 < sum(a == b for a, b in zip(before, after, strict=True)) < len(before)
    for pair in after:
        assert (masks(render(composite_scene(pair)), pair.composite, pair.kind)["component"] > 127).sum() >= 250


def test_references_are_in_different_places_by_day_and_close_ups_are_large() -> None:
    close_ups = 0
    for seed in range(FIRST, FIRST + 60):
        pair = world_pair(seed)
        concepts, owners = reference_scenes(pair)
        assert [s.things for s in concepts] == [(pair.concept,)] * 3
        assert [s.things for s in owners] == [(pair.owner,)] * 3
        for scenes in (concepts, owners):
            assert len({s.context for s in scenes}) == 3
            assert all(s.context != "night" and s.treatment is None and s.view is None for s in scenes)
        assert all(s.focus is None for s in (*concepts, owners[-1]))
        for scene in owners:
            mask = masks(render(scene), pair.owner, pair.kind)["component"]
            assert (mask > 127).sum() > 0
            assert scene.focus is None or mask.mean() / 255 >= 0.05
            close_ups += scene.focus is not None
    assert close_ups >= 60  # most pairs have two


def test_a_prompt_sets_its_own_field_alone() -> None:
    pair = world_pair(FIRST)
    for make, thing in (
        (composite_scene, pair.composite), (concept_scene, pair.concept), (component_scene, pair.component)
    ):  # fmt: skip
        plain = make(pair)
        assert (plain.things, plain.context, plain.treatment, plain.view) == ((thing,), "plain", None, None)
        assert (plain.x, plain.y, plain.zoom, plain.mirrored) == (0, 0, 1, False)
        for name in PROMPTS:
            scene = make(pair, name)
            found = (scene.context, scene.treatment, scene.view)
            assert found == (
                name if name in CONTEXTS else "plain",
                name if name in TREATMENTS else None,
                name if name in VIEWS else None,
            )


def test_the_truth_beside_a_pair_says_what_it_is(tmp_path: Path) -> None:
    pair = world_pair(10**9 + 5)
    truth = write_pair(pair, tmp_path / "new" / "pair", size=32) / "truth"
    said = json.loads((truth / "attributes.json").read_text("utf-8"))
    assert (said["seed"], said["range"], said["words"]) == (pair.seed, "bench", list(pair.words))
    assert said["component"]["style"] == pair.component.style
    assert said["concept"]["surface"]["color"] == list(pair.concept.surface.color)
    assert said["owner"]["components"][0]["kind"] in SLOTS[pair.owner.category]
    assert [len(said["captions"][k]) for k in ("concept", "component")] == [3, 3]
    assert all(pair.component.style in text for text in said["captions"]["component"])
    with Image.open(truth / "composite-snow.png") as image:
        assert np.array_equal(np.asarray(image), render(composite_scene(pair, "snow"), 32).image)
    with Image.open(next((truth.parent / "masks").iterdir())) as mask:
        assert (mask.mode, mask.size) == ("L", (32, 32))


def test_an_interrupted_write_leaves_no_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("magictailor.world.pairs._write_truth", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_pair(world_pair(FIRST), tmp_path / "pair")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_end_at_32_bits(seed: int) -> None:
    assert seed_range(2**32 - 1) == "checks"
    assert seed_range(FIRST - 1) == "training"
    with pytest.raises(InputError, match="choose one in"):
        seed_range(seed)
