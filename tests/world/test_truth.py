"""Truth by colour: what the measure tells apart, and how often it errs."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pytest
from PIL import Image

from magictailor.world.pairs import WorldPair, masks, world_pair
from magictailor.world.render import render
from magictailor.world.scene import Concept, Scene, random_stage
from magictailor.world.truth import Template, alternatives, cielab, mean_colors, nearest_alternative

FIRST = 10**8
PAIRS = [world_pair(FIRST + i) for i in range(8)]


@cache
def choices(number: int) -> Mapping[str, Sequence[Template]]:
    """Of that pair, with the next one as the other."""
    return alternatives(PAIRS[number], [PAIRS[(number + 1) % len(PAIRS)]])


def anywhere(pair: WorldPair, thing: Concept, draw: int) -> Scene:
    """The thing in a place, size and direction drawn anew."""
    return random_stage(np.random.default_rng((pair.seed, draw, 99)), (thing,))


def test_a_regions_colour_is_the_mean_weighted_by_its_mask() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4] = (255, 0, 0)
    left = np.zeros((8, 8), np.uint8)
    left[:, :4] = 255
    soft = np.full((8, 8), 85, np.uint8)
    soft[:, 4:] = 255
    colors = mean_colors(cielab(image), [left, soft])
    red, black = cielab(np.array([255, 0, 0])), cielab(np.zeros(3))
    assert np.allclose(colors, [red, 0.25 * red + 0.75 * black])


@pytest.mark.parametrize("name", ["composite", "own", "owner"])
def test_renders_in_any_place_are_told_apart_even_under_noise(name: str) -> None:
    rng, judged = np.random.default_rng(0), []
    for number, pair in enumerate(PAIRS):
        thing = {"composite": pair.composite, "own": pair.concept, "owner": pair.owner}[name]
        for draw in range(3):
            clean = render(anywhere(pair, thing, draw)).image.astype(float)
            noisy = (clean + rng.normal(0, 12, clean.shape)).clip(0, 255).astype(np.uint8)
            judged.append(nearest_alternative(Image.fromarray(noisy), choices(number)))
    assert judged.count(name) >= 0.95 * len(judged)


def test_the_right_concept_with_its_old_components_colour_is_its_own() -> None:
    """Shapes equal, so the colours alone decide: the composite's component is painted as the own one was."""
    judged = []
    for number, pair in enumerate(PAIRS):
        composite, own = (render(anywhere(pair, thing, 0)) for thing in (pair.composite, pair.concept))
        new = masks(composite, pair.composite, pair.kind)["component"] > 127
        old = masks(own, pair.concept, pair.kind)["component"] > 127
        image = composite.image.copy()
        image[new] = np.median(own.image[old], 0)
        judged.append(nearest_alternative(Image.fromarray(image), choices(number)))
    assert judged.count("composite") <= 1


def test_another_pairs_composite_is_named_by_its_seed() -> None:
    for number in range(len(PAIRS)):
        other = PAIRS[(number + 1) % len(PAIRS)]
        image = Image.fromarray(render(anywhere(other, other.composite, 0)).image)
        assert nearest_alternative(image, choices(number)) == f"other:{other.seed}"
