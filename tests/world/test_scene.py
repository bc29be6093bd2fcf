"""The world is deterministic, complete, and draws what its attributes say."""

import numpy as np
import pytest

from magictailor.world.render import BODY, render
from magictailor.world.scene import (
    CATEGORIES,
    CONTEXTS,
    PROMPTS,
    SLOTS,
    STYLES,
    Component,
    Concept,
    Scene,
    Surface,
    random_concept,
    random_scene,
)

PROTOCOL = {
    "on the beach", "in the jungle", "in the snow", "at night", "in autumn", "watercolor painting", "Ukiyo-e painting",
    "in Pixel Art style", "in Von Gogh style", "in a comic book", "with clouds in the background",
    "with flowers in the background", "near the Eiffel Tower", "on top of water", "in front of the Mount Fuji",
    "from 3D rendering", "in a far view", "in a close view", "made of clay", "made of plastic",
}  # fmt: skip
RED = Surface("red", (212, 38, 38), "plain", (250, 216, 52))
BLUE = Surface("blue", (40, 92, 214), "plain", (250, 216, 52))


def concept(category: str, kind: str, style: str) -> Concept:
    return Concept(category, BLUE, (1.0, 1.0, 1.0), (236, 188, 150), (Component(kind, style, RED, 1.0),))


def test_same_seed_same_picture_and_other_seed_other_picture() -> None:
    first, again, other = (render(random_scene(s)).image for s in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_prompts_are_the_protocols() -> None:
    assert set(PROMPTS.values()) == PROTOCOL
    assert len(PROMPTS) == 20


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_style_is_visible_and_red_on_its_body_and_alone(category: str) -> None:
    for kind in SLOTS[category]:
        pictures = []
        for style in STYLES[kind]:
            thing = concept(category, kind, style)
            on_body, alone = render(Scene((thing,))), render(Scene((thing.components[0],)))
            for rendering, owner in ((on_body, BODY + 1), (alone, BODY)):
                mask = rendering.mask(owner) > 127
                assert mask.sum() >= 20, (kind, style)
                # outlines, eyes behind glasses and spokes are not red: the greater part is
                assert np.median(rendering.image[mask][:, 0]) > np.median(rendering.image[mask][:, 2]), (kind, style)
            pictures.append(alone.image)
        assert len({p.tobytes() for p in pictures}) == 4, kind


def test_every_prompt_changes_the_picture() -> None:
    thing = concept("tower", "roof", "pointed")
    scenes = [Scene((thing,))]
    scenes += [
        Scene((thing,), context=k)
        if k in CONTEXTS
        else Scene((thing,), view=k)
        if k in ("far", "close")
        else Scene((thing,), treatment=k)
        for k in PROMPTS
    ]
    pictures = [render(s).image for s in scenes]
    for i, a in enumerate(pictures):
        assert a.shape == (64, 64, 3)
        for b in pictures[:i]:
            assert np.abs(a.astype(int) - b.astype(int)).mean() > 2


def test_a_mirrored_scene_is_the_mirror_image() -> None:
    thing = concept("cat", "tail", "curly")
    plain, mirrored = render(Scene((thing,))), render(Scene((thing,), mirrored=True))
    difference = np.abs(plain.image[:, ::-1].astype(int) - mirrored.image.astype(int))
    assert difference.mean() < 3  # lines have a width: a pixel's edge may fall on the other side


def test_masks_share_no_pixel() -> None:
    for seed in range(30):
        thing = random_concept(np.random.default_rng(seed))
        rendering = render(Scene((thing,)))
        total = sum(rendering.mask(BODY + i).astype(int) for i in range(len(thing.components) + 1))
        assert total.max() <= 255 + len(thing.components) + 1  # each mask is rounded
