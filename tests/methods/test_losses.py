"""What the compared methods' losses mean, checked with numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from magictailor.common.randomness import uniform
from magictailor.data.batches import Picture, augmented
from magictailor.data.collage import Scaling, collage
from magictailor.exports.merging import merged_weight
from magictailor.recipe import Augment, ContextMask, with_settings
from magictailor.techniques.attention import attention_error
from magictailor.techniques.diffusion import context_mask, masked_error
from tiny import SIZE, Rig, pair, recipe, short


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def priors(tmp_path: Path) -> dict[str, list[Path]]:
    """Two pictures of noise for whatever class."""
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for i, path in enumerate(paths):
        pixels = np.random.default_rng(i).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    kinds = ("a photo of a person", "a photo of a hair", "photo of a person", "photo of a hair")
    return dict.fromkeys(kinds, paths)


def test_the_prior_is_not_masked_and_the_instance_is(priors: dict[str, list[Path]]) -> None:
    """The step's loss from its own prediction: the masked mean of the pair's row, and the plain mean of the prior's."""
    rig = Rig(short("dreambooth", "prior.weight=0.7"), pair())
    rig.examples.with_priors(priors)
    rows, prompts = rig.examples.of(0), rig.objective.prompts(0)
    assert [row.prior is not None for row in rows] == [False, True]
    assert rows[1].prompt == f"a photo of a {rig.examples.naming.words[rows[0].words[0]]}"
    batch = rig.objective.inputs.batch(0, rows, rig.recipe.phase(0))
    outcome = rig.objective.forward(batch, 0, rig.objective.text(prompts))
    error = (outcome.prediction - batch.target).detach()
    mask = batch.mask[0]
    instance = (mask * error[0] ** 2).sum() / (4 * mask.sum())
    prior = error[1].square().mean()
    figures = rig.objective.backward(0, None)
    assert figures["loss"] == pytest.approx(float(instance + 0.7 * prior), rel=1e-5)
    assert figures["prior"] == pytest.approx(float(prior), rel=1e-5)
    assert 0 < float(mask.mean()) < 1
    assert torch.equal(batch.mask[1], torch.ones_like(mask))


@pytest.mark.parametrize("method", ["custom-diffusion", "dreambooth"])
def test_micro_batches_change_nothing(method: str, priors: dict[str, list[Path]]) -> None:
    results = []
    for size in ("none", "1", "3"):
        rig = Rig(short(method, f"micro_batch={size}", "batch=4"), pair((2, 1)))
        rig.examples.with_priors(priors)
        results.append((rig.objective.backward(1, None), rig.gradients()))
    for figures, gradients in results[1:]:
        assert figures == pytest.approx(results[0][0], rel=1e-5)
        for name, value in gradients.items():
            torch.testing.assert_close(value, results[0][1][name], rtol=1e-3, atol=1e-6)


def test_a_unions_mask_is_the_union_and_its_loss_reads_each_words_own() -> None:
    rig = Rig(short("break-a-scene"), pair((2, 2)))
    kinds = set()
    for step in range(20):
        (row,) = rig.examples.of(step)
        batch = rig.objective.inputs.batch(step, [row], rig.recipe.phase(step % 2))
        pixels, masks = rig.objective.inputs._shown(step, row)
        kinds.add(len(row.words))
        assert batch.map_masks is not None
        assert batch.map_masks.shape[1] == len(row.words) == len(set(row.words))
        if len(row.words) == 1:
            assert row.prompt == f"a photo of {row.words[0]}"
            continue
        assert row.prompt == f"a photo of {row.words[0]} and {row.words[1]}"
        small = masks.amax(0).unfold(1, 2, 2).unfold(2, 2, 2).mean((-1, -2))
        torch.testing.assert_close(batch.mask[0], small)
        assert float((masks[0] * masks[1]).max()) == 0  # side by side
        outside = pixels[:, masks.amax(0)[0] == 0]
        assert float((outside - outside[:, :1]).abs().max()) == 0  # one colour
    assert kinds == {1, 2}


def test_the_attention_of_a_union_is_summed_over_its_words() -> None:
    rig = Rig(short("break-a-scene"), pair((1, 1)))
    step = next(s for s in range(20) if len(rig.examples.of(s)[0].words) == 2)
    rows = rig.examples.of(step)
    phase = rig.recipe.phases[0]
    assert phase.attention is not None
    maps, masks = random(1, 2, 4, 4).abs(), random(1, 2, 4, 4, seed=1).abs()
    total = rig.objective._attention(rows, maps, masks, phase.attention)
    by_hand = sum(float(((maps[0, n] / maps[0, n].max() - masks[0, n]) ** 2).mean()) for n in range(2))
    assert float(total) == pytest.approx(by_hand, rel=1e-6)


def test_a_collage_cuts_each_thing_out() -> None:
    shown = []
    for value in (0.5, -0.25):
        mask = torch.zeros(1, SIZE, SIZE)
        mask[:, 4:10, 3:8] = 1
        shown.append((torch.full((3, SIZE, SIZE), value), mask))
    pixels, masks = collage(shown, uniform(11, 0, 0, 0, "test"))
    for mask, value in zip(masks, (0.5, -0.25)):
        inside = pixels[:, mask[0] > 0.999]
        assert inside.numel() > 0
        torch.testing.assert_close(inside, torch.full_like(inside, value))


def test_clics_context_counts_what_its_paper_and_its_code_say() -> None:
    mask = torch.tensor([0.0, 0.04, 0.06, 0.5, 1.0])
    blend = context_mask(mask, ContextMask(kind="blend", value=0.5))
    assert blend.tolist() == pytest.approx([0.5, 0.52, 0.53, 0.75, 1.0])
    floor = context_mask(mask, ContextMask(kind="floor", value=0.25))
    assert floor.tolist() == pytest.approx([0.25, 0.25, 0.06, 0.5, 1.0])
    assert context_mask(mask, None) is mask


def test_in_context_a_component_is_named_on_its_owner_and_nothing_else_differs() -> None:
    rig = Rig(short("magictailor-in-context"), pair())
    named = {row.words[0]: row.prompt for row in rig.examples.of(0)}
    assert named == {"<person>": "a photo of <person>", "<hair>": "zoomed in person with <hair>"}
    assert rig.recipe.model_copy(update={"component_prompt": None, "method": "magictailor"}) == short("magictailor")


def test_clics_three_losses_by_hand() -> None:
    """l_con + 0.5 l_att + 0.5 l_RoI from predictions made here."""
    rig = Rig(short("clic"), pair())
    (row,) = rig.examples.of(0)
    component = row.words[0] == "<hair>"
    assert row.prompt == ("a person with <hair> style" if component else "a photo of <person>")
    batch = rig.objective.inputs.batch(0, [row], rig.recipe.phase(0))
    assert batch.region is not None
    torch.testing.assert_close(batch.region.noisy, batch.noisy * batch.mask)
    assert rig.objective.prompts(0)[1:] in ([], [f"a photo of {row.words[0]}"])
    unet, encode = rig.backbone.denoiser, rig.backbone.encode_text
    with torch.no_grad():
        seen = unet(batch.noisy, batch.timesteps, encode([row.prompt]).sequence).sample - batch.target
        alone = (
            unet(batch.region.noisy, batch.timesteps, encode([f"a photo of {row.words[0]}"]).sequence).sample
            - batch.region.target
        )
    context = ((0.5 + 0.5 * batch.mask) * seen).square().mean()
    figures = rig.objective.backward(0, None)
    assert figures["region"] == pytest.approx(float(alone.square().mean()), rel=1e-4)
    expected = float(context) + 0.5 * figures["attention"] + 0.5 * figures["region"]
    assert figures["loss"] == pytest.approx(expected, rel=1e-4)
    assert all("up_blocks" in n for n in rig.backbone.attention_layers(up_alone=True))


@pytest.mark.parametrize("method", ["clic", "clic-official"])
def test_the_region_alone_does_not_have_to_say_what_was_masked_out(method: str) -> None:
    """With v prediction a target holds the picture: pairs that differ outside the mask must have one target."""
    targets = []
    for noise in (0, 9):
        rig = Rig(short(method, "augment.jitter=0"), pair((1,)), "v_prediction")
        (shown,) = rig.pictures
        changed = replace(
            shown, pixels=shown.pixels * shown.mask + random(3, SIZE, SIZE, seed=noise) * (1 - shown.mask)
        )
        rig.examples.pictures = [changed]
        batch = rig.objective.inputs.batch(1, rig.examples.of(1), rig.recipe.phase(0))
        assert batch.region is not None
        targets.append((batch.region.target, batch.target))
    inside = batch.mask.bool().expand_as(targets[0][0])
    if method == "clic-official":
        torch.testing.assert_close(targets[0][0], targets[1][0])
    else:
        torch.testing.assert_close(targets[0][0][~inside], targets[1][0][~inside])
    assert float((targets[0][1] - targets[1][1]).abs().max()) > 0.05


def test_clics_code_masks_pixels_and_counts_the_region_alone() -> None:
    rig = Rig(short("clic-official"), pair())
    (row,) = rig.examples.of(0)
    batch = rig.objective.inputs.batch(0, [row], rig.recipe.phase(0))
    pixels, masks = rig.objective.inputs._shown(0, row)
    posterior = rig.objective.inputs._noises(0, [0], "posterior")
    noise = rig.objective.inputs._noises(0, [0], "noise")
    alone = rig.backbone.add_noise(
        rig.backbone.encode_images((pixels * masks[0])[None], posterior), noise, batch.timesteps
    )
    assert batch.region is not None
    torch.testing.assert_close(batch.region.noisy, alone)
    with torch.no_grad():
        text = rig.backbone.encode_text([f"a photo of {row.words[0]}"]).sequence
        error = rig.backbone.denoiser(alone, batch.timesteps, text).sample - batch.region.target
    figures = rig.objective.backward(0, None)
    assert figures["region"] == pytest.approx(float(masked_error(error, batch.mask)), rel=1e-4)


def test_attention_may_be_left_as_it_is() -> None:
    maps, mask = random(2, 4, 4).abs(), torch.ones(2, 4, 4)
    torch.testing.assert_close(attention_error(maps, mask, normalised=False), (maps - 1).square().mean((1, 2)))


def test_custom_diffusions_sizes_prefixes_and_valid_area() -> None:
    sizes, prefixes = [], set()
    for i in range(300):
        scaling = Scaling.drawn(uniform(5, 0, i, 0, "scale"))
        sizes.append(scaling.size)
        prefixes.add((scaling.size < 0.6, scaling.size > 1, scaling.prefix))
        pixels, masks = scaling.of(torch.ones(3, 32, 32), torch.ones(2, 1, 32, 32))
        assert pixels.shape == (3, 32, 32)
        area = min(1.0, scaling.size**2)
        assert float(masks[0].mean()) == pytest.approx(area, abs=0.07)
        assert torch.equal(masks[0], masks[1])
        assert bool((pixels[:, masks[0, 0] == 0] == 0).all())
    assert prefixes == {
        (True, False, "a far away "),
        (True, False, "very small "),
        (False, False, ""),
        (False, True, "zoomed in "),
        (False, True, "close up "),
    }
    assert 0.6 < sum(s <= 1 for s in sizes) / len(sizes) < 0.72
    assert min(sizes) > 1 / 3
    assert max(sizes) < 1.4


def test_a_prompt_says_how_large_the_picture_was_made(priors: dict[str, list[Path]]) -> None:
    rig = Rig(short("custom-diffusion"), pair())
    rig.examples.with_priors(priors)
    for row in [row for step in range(10) for row in rig.examples.of(step)]:
        scaling = rig.examples.scaling(0, row.number)
        assert scaling is not None
        if row.prior is not None:
            assert row.prompt in ("photo of a person", "photo of a hair")
    starts = {row.prompt.split("photo")[0] for step in range(20) for row in rig.examples.of(step) if row.prior is None}
    assert starts == {"", "a far away ", "very small ", "zoomed in ", "close up "}


def test_brightness_alone_leaves_the_colours_proportions() -> None:
    picture = Picture(
        0, "<w>", torch.tensor([-0.2, 0.0, 0.4])[:, None, None].expand(3, 4, 4).clone(), torch.ones(1, 4, 4)
    )
    draws = torch.tensor([0.9, 0.1, 0.1, 0.9])
    changed, _ = augmented(picture, Augment(jitter=0.5, brightness_alone=True, flip=0), draws)
    torch.testing.assert_close((changed + 1) / 2, ((picture.pixels + 1) / 2 * 1.4).clamp(max=1))


def test_the_merge_gives_each_runs_values_on_its_own_text() -> None:
    """And leaves the base's where text has nothing to do with either, as far as it can."""
    base, regular = random(10, 32), random(200, 32, seed=1)
    features = [random(3, 32, seed=2), random(2, 32, seed=3)]
    weights = [base + 0.3 * random(10, 32, seed=4), base + 0.3 * random(10, 32, seed=5)]
    merged = merged_weight(base, features, weights, regular)
    for own, weight in zip(features, weights):
        torch.testing.assert_close(merged @ own.double().T, (weight @ own.T).double(), rtol=1e-6, atol=1e-6)
    change = (merged - base) @ regular.double().T
    naive = sum(w - base for w in weights).double() @ regular.double().T  # type: ignore[union-attr]
    assert float(change.norm()) < 0.5 * float(naive.norm())
    alone = merged_weight(base, features[:1], weights[:1], regular)
    other = random(32, 3, seed=6).double()
    constrained = torch.linalg.lstsq(features[0].double(), torch.zeros(3, 1, dtype=torch.float64)).solution
    assert constrained.norm() == 0
    assert float(((alone - base) @ other).norm()) > 0


def test_template_prompts_are_drawn_for_textual_inversion() -> None:
    rig = Rig(short("textual-inversion"), pair())
    told = {row.prompt for step in range(40) for row in rig.examples.of(step)}
    assert len(told) > 20
    assert all(("<person>" in text) != ("<hair>" in text) for text in told)


def test_the_first_references_alone(tmp_path: Path) -> None:
    from magictailor.training.loop import Run
    from tiny import backbone

    one = Run(pair((3, 2)), tmp_path / "one", recipe("references=1"), backbone())
    assert [p.sample for p in one.examples.pictures] == [0, 1]
    whole = Run(pair((3, 2)), tmp_path / "whole", with_settings(recipe(), ["references=3"]), backbone())
    assert len(whole.examples.pictures) == 5
