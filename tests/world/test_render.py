"""Rendering: sizes, coverage, mirrors, and treatments that change the look but not the frame."""

import numpy as np
import pytest

from magictailor.world.render import BODY, render
from magictailor.world.scene import CONTEXTS, SLOTS, STYLES, TREATMENTS, VIEWS, Component, Concept, Scene, Surface
from magictailor.world.treatments import TREATMENT

RED = Surface("red", (212, 38, 38), "plain", (250, 216, 52))
BLUE = Surface("blue", (40, 92, 214), "plain", (250, 216, 52))
SMALLEST = (0.85, 0.85, 0.85)
CAT = Concept("cat", BLUE, (1.0, 1.0, 1.0), (236, 188, 150), (Component("ears", "pointed", RED, 1.0),))


@pytest.mark.parametrize("kind", [kind for kinds in SLOTS.values() for kind in kinds])
def test_the_smallest_build_and_part_still_show_twenty_pixels(kind: str) -> None:
    category = next(c for c, kinds in SLOTS.items() if kind in kinds)
    for style in STYLES[kind]:
        part = Component(kind, style, RED, 0.85)
        on_body = render(Scene((Concept(category, BLUE, SMALLEST, (236, 188, 150), (part,)),)))
        assert (on_body.mask(BODY + 1) > 127).sum() >= 20, style
        assert (render(Scene((part,))).mask(BODY) > 127).sum() >= 20, style


def test_parts_lie_on_each_other_in_one_order_however_they_came() -> None:
    """A hat lies on the hair and glasses on both, in references and composites alike; masks follow their parts."""
    hair, hat, glasses = (
        Component(k, s, RED, 1.0) for k, s in (("hair", "curly"), ("hat", "wide"), ("glasses", "wide"))
    )
    person = Concept("person", BLUE, (1.0, 1.0, 1.0), (236, 188, 150), (hair, hat, glasses))
    turned = Concept("person", BLUE, (1.0, 1.0, 1.0), (236, 188, 150), (glasses, hat, hair))
    one, other = render(Scene((person,))), render(Scene((turned,)))
    assert (one.image == other.image).all()
    for kind in range(3):
        assert (one.mask(BODY + 1 + kind) == other.mask(BODY + 3 - kind)).all()
    alone = render(Scene((Concept("person", BLUE, (1.0, 1.0, 1.0), (236, 188, 150), (hat,)),)))
    assert one.mask(BODY + 2).sum() > 0.9 * alone.mask(BODY + 1).sum()


def test_size_is_the_pictures_and_not_the_things() -> None:
    small, large = render(Scene((CAT,)), 32), render(Scene((CAT,)), 128)
    assert small.image.shape == (32, 32, 3)
    assert large.image.shape == (128, 128, 3)
    assert small.mask(BODY).mean() == pytest.approx(large.mask(BODY).mean(), rel=0.05)


def test_a_mask_is_the_coverage_of_its_pixels() -> None:
    rendering = render(Scene((CAT,)))
    inside = (rendering.owners == BODY).reshape(64, 4, 64, 4).mean((1, 3)) * 255
    assert 0 < inside.mean() < 255
    assert np.abs(rendering.mask(BODY) - inside).max() <= 1


def test_a_mirrored_mask_is_the_mirror_image() -> None:
    """A tail is on one side, on its body and alone; mirrored about the frame's middle, the shift too."""
    tail = Component("tail", "straight", RED, 1.0)
    for thing in (Concept("cat", BLUE, (1.0, 1.0, 1.0), (236, 188, 150), (tail,)), tail):
        owners = (BODY, BODY + 1) if isinstance(thing, Concept) else (BODY,)
        there = render(Scene((thing,), x=-0.05)).mask(*owners).astype(int)
        back = render(Scene((thing,), x=0.05, mirrored=True)).mask(*owners).astype(int)
        assert np.abs(back - there[:, ::-1]).mean() < 3
        assert np.abs(back - there).mean() > 10  # a thing that is its own mirror image would prove nothing


@pytest.mark.parametrize("name", [*TREATMENTS, "night"])
def test_treatments_keep_the_shape_and_nearly_the_range(name: str) -> None:
    """Rendering clips to 0 .. 1, which hides at most a fifth of an overshoot."""
    picture = render(Scene((CAT,))).image.astype(np.float32) / 255
    inside = render(Scene((CAT,))).mask(BODY, BODY + 1).astype(np.float32) / 255
    treated = TREATMENT[name](picture.copy(), inside, np.random.default_rng(0))
    assert treated.shape == picture.shape
    assert np.isfinite(treated).all()
    assert treated.min() > -0.25
    assert treated.max() < 1.25
    assert np.abs(treated - picture).mean() > 0.005


@pytest.mark.parametrize("context", CONTEXTS)
def test_contexts_leave_the_thing_where_it_is(context: str) -> None:
    assert np.array_equal(render(Scene((CAT,), context=context)).owners, render(Scene((CAT,))).owners)


def test_views_make_the_thing_smaller_and_larger() -> None:
    far, plain, close = (render(Scene((CAT,), view=v)).mask(BODY).mean() for v in ("far", None, "close"))
    assert set(VIEWS) == {"far", "close"}
    assert far < plain / 2 < plain < close / 1.3


def test_noise_moves_the_background_and_not_the_masks() -> None:
    first, other = (render(Scene((CAT,), context="snow", noise=n)) for n in (0, 1))
    assert not np.array_equal(first.image, other.image)
    assert np.array_equal(first.owners, other.owners)
