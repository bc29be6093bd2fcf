"""Rendering: masks are the difference of two renders, a component changes nothing outside its mask, colours are exact."""

from dataclasses import replace

import numpy as np
import pytest
from dicebear import Style

from magictailor.generation.protocol import CONTEXTS, PROMPTS, TREATMENTS
from magictailor.world.art import _definition, render_concept
from magictailor.world.catalog import CATALOG, CELLS
from magictailor.world.colors import cielab
from magictailor.world.render import OPAQUE, component_masks, masks, render, subject_layers, window_of
from magictailor.world.scene import Color, Component, Concept, Scene, random_component, random_concept, random_scene

RED = Color("red", (214, 40, 44))


def wearing(category: str, kind: str, variant: str, seed: int = 0) -> Concept:
    concept = random_concept(np.random.default_rng(seed), category, ("red",))
    return concept.wearing(Component(category, kind, variant, RED))


@pytest.mark.parametrize(("category", "kind"), CELLS)
def test_a_mask_is_where_renders_with_and_without_the_component_differ(category: str, kind: str) -> None:
    concept = wearing(category, kind, CATALOG[category].kind(kind).trained[0])
    scene = Scene((concept,), x=0.03, zoom=0.95)
    found = masks(scene, kind)
    full = render_concept(concept, window_of(scene), False, 128).astype(int)
    bare = render_concept(concept.without(concept.own(kind)), window_of(scene), False, 128).astype(int)
    same = (full == bare).all(-1)
    component, rest = found["component"] == 255, found["concept"] == 255
    assert component.sum() >= 20
    assert not (component & same).any()
    assert not (component & rest).any()
    assert ((component | rest) == (full[..., 3] > OPAQUE)).all()


@pytest.mark.parametrize(("category", "kind"), CELLS)
def test_another_component_changes_nothing_outside_the_two_masks(category: str, kind: str) -> None:
    first, second = CATALOG[category].kind(kind).trained[:2]
    scenes = [Scene((wearing(category, kind, v),)) for v in (first, second)]
    layers = [subject_layers(scene)[0].astype(int) for scene in scenes]
    # A component's shadow is in no mask, but belongs to it.
    bare = subject_layers(Scene((scenes[0].subjects[0].without(scenes[0].subjects[0].own(kind)),)))[0].astype(int)  # type: ignore[union-attr]
    touched = [(np.abs(layer - bare) > 0).any(-1) for layer in layers]
    changed = (layers[0] != layers[1]).any(-1)
    assert not (changed & ~(touched[0] | touched[1])).any()


@pytest.mark.parametrize(("category", "kind"), [c for c in CELLS if CATALOG[c[0]].kind(c[1]).color is not None])
def test_every_variant_is_visible_on_its_owner_and_alone_in_its_own_colour(category: str, kind: str) -> None:
    spec, renders = CATALOG[category].kind(kind), set()
    for variant in spec.variants:
        scene = Scene((wearing(category, kind, variant),))
        mask = masks(scene, kind)["component"] > 0
        assert mask.sum() >= 20, variant
        shown = subject_layers(scene)[0][mask][:, :3].astype(float)
        assert (shown[:, 0] - shown[:, 1:].mean(1)).max() > 90, variant  # red somewhere
        alone = subject_layers(Scene((Component(category, kind, variant, RED),)))[0]
        assert 0.015 < (alone[..., 3] > OPAQUE).mean() < 0.8, variant
        renders.add(alone.tobytes())
    assert len(renders) == len(spec.variants)


def test_colours_of_bodies_are_those_of_the_concept() -> None:
    for category in CATALOG:
        concept = random_concept(np.random.default_rng(3), category)
        bare = replace(concept, components=())
        layer = subject_layers(Scene((bare,)))[0]
        inside = cielab(layer[layer[..., 3] > 250][:, :3])
        near = np.linalg.norm(inside - cielab(np.array(concept.color.rgb)), axis=-1) < 12
        assert near.mean() > 0.15, category


def test_every_prompt_changes_the_image() -> None:
    concept = wearing("monster", "horns", "horns")
    scenes = [Scene((concept,), noise=3)]
    for name in PROMPTS:
        key = "context" if name in CONTEXTS else "treatment" if name in TREATMENTS else "view"
        scenes.append(replace(scenes[0], **{key: name}))
    images = [render(s).image for s in scenes]
    for i, a in enumerate(images):
        assert a.shape == (128, 128, 3)
        for b in images[:i]:
            assert np.abs(a.astype(int) - b.astype(int)).mean() > 2


def test_views_change_the_size_and_close_ups_show_more_of_the_component() -> None:
    scene = Scene((wearing("hero", "glasses", "variant01"),))
    share = [(render(replace(scene, view=view)).inside > 127).mean() for view in ("far", None, "close")]
    assert share[0] < 0.6 * share[1] < 0.6 * share[2]
    plain, close = (masks(s, "glasses")["component"].mean() for s in (scene, replace(scene, focus="glasses")))
    assert close > 1.5 * plain


def test_a_mirrored_scene_is_the_mirror_image() -> None:
    scene = Scene((wearing("kid", "hair", "bunHair"),))
    plain, mirrored = (subject_layers(replace(scene, mirrored=m))[0].astype(int) for m in (False, True))
    assert np.abs(plain[:, ::-1] - mirrored).mean() < 3  # lines have a width: a pixel's edge may fall on the other side


def test_masks_of_components_cover_the_concept_and_share_hardly_a_pixel() -> None:
    for seed in range(12):
        scene = Scene((random_concept(np.random.default_rng(seed)),))
        opaque, components = component_masks(scene)
        assert all((part <= opaque).all() for part in components)
        assert sum(part.astype(int) for part in components).max(initial=0) <= 2  # glasses before hair, both are there
        both = sum(part.astype(int) for part in components) > 1 if components else np.zeros(1)
        assert both.mean() < 0.05


def test_a_component_of_another_category_sits_on_the_head() -> None:
    concept = wearing("person", "hair", "bald")
    horns = random_component(np.random.default_rng(1), "monster", "horns")
    scene = Scene((concept.wearing(horns),), zoom=0.84, y=0.06)
    mask = masks(scene, "horns")["component"] > 0
    rows = np.nonzero(mask)[0]
    head = np.nonzero(subject_layers(replace(scene, subjects=(concept.without(horns),)))[0][..., 3] > OPAQUE)[0]
    assert mask.sum() >= 40
    assert rows.max() <= head.min() + 40
    assert rows.min() < head.min()


def test_an_image_has_the_requested_size() -> None:
    small, large = render(random_scene(5), 64), render(random_scene(5), 256)
    assert small.image.shape == (64, 64, 3)
    assert large.image.shape == (256, 256, 3)
    assert small.inside.mean() == pytest.approx(large.inside.mean(), rel=0.05)


@pytest.mark.parametrize("category", ["person", "kid", "robot"])  # the others' are larger and take ten seconds each
def test_the_changed_definitions_are_still_valid_styles(category: str) -> None:
    Style(_definition(CATALOG[category].style))
