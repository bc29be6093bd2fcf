"""What the compared methods' losses mean, checked with numbers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from magictailor.backbones import Prediction
from magictailor.common.randomness import uniform
from magictailor.data.arrangement import Scaling, collage
from magictailor.data.training_images import TrainingImage, augmented
from magictailor.exports.merging import merged_weight
from magictailor.recipe import Augment, ContextMask, DMDeg
from magictailor.techniques.attention import attention_error
from magictailor.techniques.diffusion import context_mask, masked_error
from magictailor.training.batch import Batch
from magictailor.training.rows import Row
from tiny import SIZE, Rig, pair, recipe, short


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def batch_of(rig: Rig, rows: Sequence[Row], step: int = 0) -> Batch:
    """The rows of a step as tensors."""
    return rig.objective.maker.batch(rows, rig.examples.times(step)[: len(rows)], rig.recipe.phase(step))


def rendered(rig: Rig, row: Row) -> tuple[Tensor, Tensor]:
    """A row's pixels [3, S, S] and masks [n, S, S] before degradation."""
    return row.render(SIZE, rig.recipe.data.augment, False, rig.backbone.device)


@pytest.fixture
def priors(tmp_path: Path) -> dict[str, list[Path]]:
    """Two images of noise for whatever class."""
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for i, path in enumerate(paths):
        pixels = np.random.default_rng(i).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    kinds = ("a photo of a person", "a photo of a hair", "photo of a person", "photo of a hair")
    return dict.fromkeys(kinds, paths)


def test_the_prior_is_not_masked_and_the_instance_is(priors: dict[str, list[Path]]) -> None:
    """The step's loss from its own prediction: the masked mean of the pair's row, and the plain mean of the prior's."""
    rig = Rig(short("dreambooth", "loss.prior.weight=0.7"), pair())
    rig.examples.use_priors(priors)
    rows, phase = rig.examples.rows(0), rig.recipe.phase(0)
    assert [row.prior is not None for row in rows] == [False, True]
    assert rows[1].prompt == f"a photo of a {rig.examples.naming.words[rows[0].words[0]]}"
    batch = batch_of(rig, rows)
    with rig.objective.reading_attention():
        forward = rig.objective.forward(batch, rig.objective.encode_prompts(rows), phase)
    error = (forward.prediction - batch.target).detach()
    mask = batch.mask[0]
    instance = (mask * error[0] ** 2).sum() / (4 * mask.sum())
    prior = error[1].square().mean()
    figures = rig.backward(0, None)
    assert figures["loss"] == pytest.approx(float(instance + 0.7 * prior), rel=1e-5)
    assert figures["prior"] == pytest.approx(float(prior), rel=1e-5)
    assert 0 < float(mask.mean()) < 1
    assert torch.equal(batch.mask[1], torch.ones_like(mask))


@pytest.mark.parametrize("method", ["custom-diffusion", "dreambooth"])
def test_micro_batches_change_nothing(method: str, priors: dict[str, list[Path]]) -> None:
    results = []
    for size in ("none", "1", "3"):
        rig = Rig(short(method, f"optimisation.micro_batch={size}", "data.batch=4"), pair((2, 1)))
        rig.examples.use_priors(priors)
        results.append((rig.backward(1, None), rig.gradients()))
    for figures, gradients in results[1:]:
        assert figures == pytest.approx(results[0][0], rel=1e-5)
        for name, value in gradients.items():
            torch.testing.assert_close(value, results[0][1][name], rtol=1e-3, atol=1e-6)


def test_a_collages_mask_is_the_union_and_its_loss_reads_each_words_own() -> None:
    rig = Rig(short("break-a-scene", "phases.0.steps=20"), pair((2, 2)))
    kinds = set()
    for step in range(20):
        (row,) = rig.examples.rows(step)
        batch, (pixels, masks) = batch_of(rig, [row], step), rendered(rig, row)
        kinds.add(len(row.words))
        assert batch.map_masks is not None
        assert batch.map_masks.shape[1] == len(row.words) == len(set(row.words))
        if len(row.words) == 1:
            assert row.prompt == f"a photo of {row.words[0]}"
            continue
        assert row.prompt == f"a photo of {row.words[0]} and {row.words[1]}"
        union = masks.amax(0)
        small = union.unfold(0, 2, 2).unfold(1, 2, 2).mean((-1, -2))
        torch.testing.assert_close(batch.mask[0, 0], small)
        each = masks.unfold(1, 4, 4).unfold(2, 4, 4).mean((-1, -2))
        torch.testing.assert_close(batch.map_masks[0], each)
        assert float((masks[0] * masks[1]).max()) == 0  # side by side
        outside = pixels[:, union == 0]
        assert float((outside - outside[:, :1]).abs().max()) == 0  # one colour
    assert kinds == {1, 2}


def test_the_attention_of_a_collage_is_summed_over_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two rows together: one with both words, one with a single word, whose second map is padding."""
    rig = Rig(short("break-a-scene", "phases.0.steps=20"), pair((1, 1)))
    rows = [rig.examples.rows(step)[0] for step in range(20)]
    both, single = (next(row for row in rows if len(row.words) == count) for count in (2, 1))
    rows, phase = [replace(row, number=number) for number, row in enumerate((both, single))], rig.recipe.phase(0)
    batch = rig.objective.maker.batch(rows, torch.tensor([0.3, 0.6]), phase)
    predict, maps = rig.backbone.predict, list[Tensor]()

    def predicting(*inputs: Any, **options: Any) -> Prediction:
        prediction = predict(*inputs, **options)
        assert prediction.attention is not None
        maps.append(prediction.attention.detach())
        return prediction

    monkeypatch.setattr(rig.backbone, "predict", predicting)
    with rig.objective.reading_attention():
        losses = rig.objective.forward(batch, rig.objective.encode_prompts(rows), phase).attention
    ((each, alone),), masks = maps, batch.map_masks
    assert masks is not None

    def error(seen: Tensor, mask: Tensor) -> float:
        return float(((seen / seen.max() - mask) ** 2).mean())

    assert float(losses[0]) == pytest.approx(sum(error(each[n], masks[0, n]) for n in range(2)), rel=1e-5)
    assert float(losses[1]) == pytest.approx(error(alone[0], masks[1, 0]), rel=1e-5)
    assert not alone[1].any()


def test_a_collage_cuts_each_subject_out() -> None:
    subjects = []
    for value in (0.5, -0.25):
        mask = torch.zeros(1, SIZE, SIZE)
        mask[:, 4:10, 3:8] = 1
        subjects.append((torch.full((3, SIZE, SIZE), value), mask))
    pixels, masks = collage(subjects, uniform(11, 0, 0, 0, "test"))
    for mask, value in zip(masks, (0.5, -0.25)):
        inside = pixels[:, mask > 0.999]
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
    prompts = {row.words[0]: row.prompt for row in rig.examples.rows(0)}
    assert prompts == {"<person>": "a photo of <person>", "<hair>": "zoomed in person with <hair>"}
    plain = {"method": "magictailor", "prompts": rig.recipe.prompts.model_copy(update={"component_template": None})}
    assert rig.recipe.model_copy(update=plain) == short("magictailor")


def test_latent_is_in_context_with_more_noise_and_in_the_latents() -> None:
    ours, other = short("magictailor-latent"), short("magictailor-in-context")
    differences = {(d.space, d.alpha) for d in (p.degradation for p in ours.phases) if isinstance(d, DMDeg)}
    assert differences == {("latents", 0.7)}
    as_before = tuple(p.model_copy(update={"degradation": DMDeg()}) for p in ours.phases)
    assert ours.model_copy(update={"method": other.method, "phases": as_before}) == other


def test_clics_three_losses_by_hand() -> None:
    """l_con + 0.5 l_att + 0.5 l_RoI from predictions made here."""
    rig = Rig(short("clic"), pair())
    (row,) = rig.examples.rows(0)
    component = row.words[0] == "<hair>"
    assert row.prompt == ("a person with <hair> style" if component else "a photo of <person>")
    batch = batch_of(rig, [row])
    assert batch.region is not None
    torch.testing.assert_close(batch.region.noisy, batch.noisy * batch.mask)
    assert row.region_prompt == f"a photo of {row.words[0]}"

    def predicted(noisy: Tensor, prompt: str) -> Tensor:
        text = rig.backbone.encode_text([prompt]).tensors["sequence"]
        return rig.backbone.denoiser(noisy, batch.times, text).sample

    with torch.no_grad():
        seen = predicted(batch.noisy, row.prompt) - batch.target
        alone = predicted(batch.region.noisy, f"a photo of {row.words[0]}") - batch.region.target
    context = ((0.5 + 0.5 * batch.mask) * seen).square().mean()
    figures = rig.backward(0, None)
    assert figures["region"] == pytest.approx(float(alone.square().mean()), rel=1e-4)
    expected = float(context) + 0.5 * figures["attention"] + 0.5 * figures["region"]
    assert figures["loss"] == pytest.approx(expected, rel=1e-4)
    assert all("up_blocks" in n for n in rig.backbone.attention_layers(rig.recipe.attention.blocks))


@pytest.mark.parametrize("method", ["clic", "clic-official"])
def test_the_region_alone_does_not_have_to_say_what_was_masked_out(method: str) -> None:
    """With v prediction a target holds the image: pairs that differ outside the mask must have one target."""
    targets = []
    for noise in (0, 9):
        rig = Rig(short(method, "data.augment.jitter=0"), pair((1,)), "v_prediction")
        (image,) = rig.examples.images
        pixels = image.pixels * image.mask + random(3, SIZE, SIZE, seed=noise) * (1 - image.mask)
        rig.examples.images = [replace(image, pixels=pixels)]
        batch = batch_of(rig, rig.examples.rows(1), 1)
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
    (row,) = rig.examples.rows(0)
    batch = batch_of(rig, [row])
    pixels, masks = rendered(rig, row)
    shape = rig.backbone.latent_shape(SIZE, SIZE)
    posterior, noise = (row.normal(shape, purpose)[None] for purpose in ("posterior", "noise"))
    encoded = rig.backbone.encode_images((pixels * masks[:1])[None], posterior)
    alone = rig.backbone.add_noise(encoded, noise, batch.times)
    assert batch.region is not None
    torch.testing.assert_close(batch.region.noisy, alone)
    with torch.no_grad():
        text = rig.backbone.encode_text([f"a photo of {row.words[0]}"]).tensors["sequence"]
        error = rig.backbone.denoiser(alone, batch.times, text).sample - batch.region.target
    figures = rig.backward(0, None)
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
        pixels, masks = scaling.of(torch.ones(3, 32, 32), torch.ones(2, 32, 32))
        assert pixels.shape == (3, 32, 32)
        area = min(1.0, scaling.size**2)
        assert float(masks[0].mean()) == pytest.approx(area, abs=0.07)
        assert torch.equal(masks[0], masks[1])
        assert bool((pixels[:, masks[0] == 0] == 0).all())
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


def test_a_prompt_says_how_large_the_image_was_made(priors: dict[str, list[Path]]) -> None:
    rig = Rig(short("custom-diffusion", "phases.0.steps=20"), pair())
    rig.examples.use_priors(priors)
    rows = [row for step in range(20) for row in rig.examples.rows(step)]
    beginnings = set()
    for row in rows:
        if row.prior is not None:
            assert row.scaling is None
            assert row.prompt in ("photo of a person", "photo of a hair")
            continue
        assert row.scaling is not None
        assert row.prompt.startswith(f"{row.scaling.prefix}photo of a ")
        if row.scaling.size <= 1:
            area = row.scaling.size**2 * float(row.subjects[0].mask.mean())
            assert float(rendered(rig, row)[1].mean()) == pytest.approx(area, abs=0.05)
        beginnings.add(row.scaling.prefix)
    assert beginnings == {"", "a far away ", "very small ", "zoomed in ", "close up "}
    assert sum(row.prior is not None for row in rows) == len(rows) / 2


def test_only_brightness_leaves_the_colours_proportions() -> None:
    pixels = torch.tensor([-0.2, 0.0, 0.4])[:, None, None].expand(3, 4, 4).clone()
    image = TrainingImage(0, "<w>", pixels, torch.ones(1, 4, 4))
    draws = torch.tensor([0.9, 0.1, 0.1, 0.9])
    changed, _ = augmented(image, Augment(jitter=0.5, only_brightness=True, flip=0), draws)
    torch.testing.assert_close((changed + 1) / 2, ((pixels + 1) / 2 * 1.4).clamp(max=1))


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


def test_textual_inversion_takes_its_prompts_from_templates() -> None:
    rig = Rig(short("textual-inversion", "phases.0.steps=40"), pair())
    prompts = {row.prompt for step in range(40) for row in rig.examples.rows(step)}
    assert len(prompts) > 20
    assert all(("<person>" in text) != ("<hair>" in text) for text in prompts)


def test_the_first_references_alone() -> None:
    one = Rig(recipe("data.references=1"), pair((3, 2))).examples
    assert [image.sample for image in one.images] == [0, 1]
    whole = Rig(recipe("data.references=3"), pair((3, 2))).examples
    assert len(whole.images) == 5
    assert torch.equal(one.images[1].pixels, whole.images[3].pixels)
