"""Truth by colour: what the measure tells apart, and how often it errs."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from magictailor.world.pairs import WorldPair, composite_scene, concept_scene, masks, world_pair
from magictailor.world.render import render
from magictailor.world.scene import Scene
from magictailor.world.truth import cielab, nearest_alternative, region_colors

FIRST = 10**8
PAIRS = [world_pair(FIRST + i) for i in range(40)]
NO_OTHERS: list[WorldPair] = []


def picture(scene: Scene) -> Image.Image:
    return Image.fromarray(render(scene).image)


def test_a_regions_colour_is_the_mean_inside_its_mask_alone() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4] = (255, 0, 0)
    left = np.zeros((8, 8), np.uint8)
    left[:, :4] = 255
    faint = np.full((8, 8), 127, np.uint8)
    faint[:, 4:] = 128
    colors = region_colors(Image.fromarray(image), [left, faint, np.full((8, 8), 255, np.uint8)])
    red, black = cielab(np.array([255, 0, 0])), cielab(np.zeros(3))
    assert np.allclose(colors, [red, black, (red + black) / 2])


def test_the_true_composite_stays_the_composite_under_noise() -> None:
    rng = np.random.default_rng(0)
    for pair, other in pairwise(PAIRS[:21]):
        clean = render(composite_scene(pair)).image.astype(float)
        noisy = (clean + rng.normal(0, 12, clean.shape)).clip(0, 255).astype(np.uint8)
        assert nearest_alternative(Image.fromarray(noisy), pair, [other]) == "composite", pair.seed


def test_the_right_concept_with_its_old_components_colour_is_its_own() -> None:
    """Shapes equal, so the colours alone decide: the composite's component is painted as the own one was."""
    judged = []
    for pair in PAIRS:
        composite, own = render(composite_scene(pair)), render(concept_scene(pair))
        new = masks(composite, pair.composite, pair.kind)["component"] > 127
        old = masks(own, pair.concept, pair.kind)["component"] > 127
        if old.sum() < 20:  # hidden under hair: it has no colour that could be taken
            continue
        image = composite.image.copy()
        image[new] = np.median(own.image[old], 0)
        judged.append(nearest_alternative(Image.fromarray(image), pair, NO_OTHERS))
    assert len(judged) >= 30
    assert judged.count("own") >= 0.85 * len(judged)


@pytest.mark.parametrize(("name", "share"), [("own", 0.75), ("owner", 0.85)])
def test_how_often_a_plain_alternative_is_told_from_the_composite(name: str, share: float) -> None:
    """Regions are the true composite's, so a part of another shape lets the wall show through: not all are told."""
    judged = [
        nearest_alternative(picture(concept_scene(p) if name == "own" else Scene((p.owner,))), p, NO_OTHERS)
        for p in PAIRS
    ]
    assert judged.count(name) >= share * len(judged)
    assert set(judged) <= {"composite", "own", "owner"}


def test_another_pairs_composite_is_named_by_its_seed() -> None:
    same = [p for p in PAIRS if p.labels == PAIRS[0].labels][:4]
    assert len(same) >= 2
    for other in same[1:]:
        found = nearest_alternative(picture(composite_scene(other)), same[0], [other])
        assert found == f"other:{other.seed}"
