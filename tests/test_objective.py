"""A step's loss and gradients against straightforward code, whatever the micro-batch."""

import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from magictailor.backbones import Condition, Prediction
from magictailor.backbones import attention as attention_module
from magictailor.common.randomness import normal, uniform
from magictailor.data.training_images import augmented
from magictailor.recipe import Augment, Preserve
from magictailor.training.batch import Batch
from magictailor.training.momentum import Momentum
from magictailor.training.rows import Examples
from tiny import PREDICTIONS, Rig, backbone, pair, recipe

PLAIN = ("data.augment.jitter=0", "data.augment.flip=0")
UNDEGRADED = [f'phases.{number}.degradation={{"kind": "none"}}' for number in (0, 1)]
WARM_UP, BALANCE = 1, 2  # a step of each phase


def straightforward(rig: Rig, step: int, held: dict[str, Tensor] | None = None) -> Tensor:
    """Equations 1 to 8 once more, image by image; nothing of the techniques and nothing of the backbone."""
    pipeline, settings = rig.backbone.pipeline, rig.recipe
    unet, alphas = pipeline.unet, pipeline.scheduler.alphas_cumprod
    alpha_d = 0.5 * (1 - (step / settings.steps) ** settings.phases[0].degradation.gamma)
    diffusion: dict[int, list[Tensor]] = {}
    attention: dict[int, list[Tensor]] = {}
    preserve: dict[int, list[Tensor]] = {}
    area: dict[int, list[Tensor]] = {}
    for i, image in enumerate(rig.examples.images):
        flipped = settings.data.augment.flip == 1
        shown, mask = (x.flip(-1) if flipped else x for x in (image.pixels, image.mask))
        degradation = normal((3, 16, 16), rig.examples.seed, step, i, "degradation")
        pixels = shown + alpha_d * degradation * (1 - mask)
        posterior = pipeline.vae.encode(pixels[None]).latent_dist
        z = posterior.mean + posterior.std * normal((4, 8, 8), rig.examples.seed, step, i, "posterior")
        z = z * pipeline.vae.config.scaling_factor
        t = int(uniform(1, rig.examples.seed, step, i, "time") * 1000)
        noise = normal((4, 8, 8), rig.examples.seed, step, i, "noise")[None]
        a, s = alphas[t].sqrt(), (1 - alphas[t]).sqrt()
        target = noise if pipeline.scheduler.config.prediction_type == "epsilon" else a * noise - s * z
        ids = pipeline.tokenizer(f"a photo of {image.word}", padding="max_length", return_tensors="pt").input_ids
        text = pipeline.text_encoder(ids).last_hidden_state
        place = ids[0].tolist().index(pipeline.tokenizer.convert_tokens_to_ids(image.word))

        seen: dict[str, Tensor] = {}
        layers = [
            n for n, _ in unet.named_modules() if n.endswith("attn2") and ("down_blocks.1" in n or "up_blocks.0" in n)
        ]
        hooks = [
            unet.get_submodule(f"{n}.{p}").register_forward_hook(
                lambda m, x, out, key=n + p, at=seen: at.setdefault(key, out)
            )
            for n in layers
            for p in ("to_q", "to_k")
        ]
        prediction = unet(a * z + s * noise, torch.tensor([t]), text).sample
        for hook in hooks:
            hook.remove()
        maps = []
        for n in layers:
            heads = unet.get_submodule(n).heads
            for q, k in zip(seen[n + "to_q"].chunk(heads, -1), seen[n + "to_k"].chunk(heads, -1)):
                maps.append((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)[0, :, place])
        probability = torch.stack(maps).mean(0).reshape(4, 4)

        small = mask.unfold(1, 2, 2).unfold(2, 2, 2).mean((-1, -2))
        smaller = mask.unfold(1, 4, 4).unfold(2, 4, 4).mean((-1, -2))[0]

        def masked(error: Tensor, small: Tensor = small) -> Tensor:
            return (small * error[0] ** 2).sum() / (4 * small.sum())

        diffusion.setdefault(image.sample, []).append(masked(prediction - target))
        attention.setdefault(image.sample, []).append(((probability / probability.max() - smaller) ** 2).mean())
        area.setdefault(image.sample, []).append(mask.mean())
        if held is not None:
            online = {n: p.detach().clone() for n, p in rig.online.items()}
            with torch.no_grad():
                for n, p in rig.online.items():
                    p.data = held[n].clone()
                other = unet(a * z + s * noise, torch.tensor([t]), text).sample
                for n, p in rig.online.items():
                    p.data = online[n]
            preserve.setdefault(image.sample, []).append(masked(other - prediction))

    def means(values: dict[int, list[Tensor]]) -> list[Tensor]:
        return [torch.stack(v).mean() for v in values.values()]

    losses = means(diffusion)
    attention_loss = 0.01 / torch.stack(means(area)).mean() * torch.stack(means(attention)).mean()
    if held is None:
        return torch.stack(losses).mean() + attention_loss
    top = max(range(len(losses)), key=lambda n: float(losses[n]))
    rest = [loss for n, loss in enumerate(means(preserve)) if n != top]
    return losses[top] + 0.2 * torch.stack(rest).mean() + attention_loss


def close(left: dict[str, Tensor], right: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    """Equal to rounding, on the scale of each tensor's largest value."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        scale = float(right[name].abs().max())
        assert float((value - right[name]).abs().max()) <= tolerance * scale + 1e-9, name


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("step", [WARM_UP, BALANCE])
@pytest.mark.parametrize("counts", [(1, 1), (2, 1, 1)])
def test_a_step_equals_straightforward_code(prediction: str, step: int, counts: tuple[int, ...]) -> None:
    equals_straightforward_code(Rig(recipe(*PLAIN), pair(counts), prediction), step, step == BALANCE)


@pytest.mark.parametrize("step", [2, 6])
def test_the_intensity_falls_over_the_whole_run_and_a_flip_turns_the_mask_too(step: int) -> None:
    """With gamma 1 each step has an intensity of its own; the masks are not symmetric, and every image is flipped."""
    falling = [f"phases.{phase}.degradation.gamma=1" for phase in (0, 1)]
    plan = recipe("data.augment.jitter=0", "data.augment.flip=1", "phases.0.steps=3", "phases.1.steps=5", *falling)
    equals_straightforward_code(Rig(plan, pair((1, 2), skew=6)), step, step >= 3)


def equals_straightforward_code(rig: Rig, step: int, balance: bool) -> None:
    momentum = rig.momentum() if balance else None
    rig.scatter(2)
    figures = rig.backward(step, momentum)
    gradients = rig.gradients()
    for parameter in rig.trained.parameters():
        parameter.grad = None
    expected = straightforward(rig, step, momentum.weights if momentum else None)
    expected.backward()
    assert figures["loss"] == pytest.approx(float(expected.detach()), rel=1e-4)
    assert all(float(g.abs().max()) > 0 for g in gradients.values())
    close(gradients, rig.gradients(), 1e-3)


@pytest.mark.parametrize("step", [WARM_UP, BALANCE])
@pytest.mark.parametrize("counts", [(3, 2), (2, 1, 2)])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_micro_batches_and_checkpointing_change_nothing(prediction: str, step: int, counts: tuple[int, ...]) -> None:
    results = []
    for size, checkpointing in (("none", "false"), ("1", "false"), ("2", "true"), ("8", "true")):
        rig = Rig(
            recipe(f"optimisation.micro_batch={size}", f"optimisation.checkpointing={checkpointing}"),
            pair(counts),
            prediction,
        )
        momentum = rig.momentum() if step == BALANCE else None
        rig.scatter(2)
        results.append((rig.backward(step, momentum), rig.gradients()))
    figures, gradients = results[0]
    assert figures["attention"] > 0
    assert ("worst" in figures) == (step == BALANCE) == (figures["preserve"] > 0)
    for other, others in results[1:]:
        assert other == pytest.approx(figures, rel=1e-5)
        close(others, gradients)


def test_what_checkpointing_computes_again_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, maps = Rig(recipe("optimisation.checkpointing=true"), pair()), []
    read_maps = attention_module.read_maps

    def reading(*inputs: Any) -> Tensor:
        computed = read_maps(*inputs)
        maps.append(weakref.ref(computed))
        return computed

    monkeypatch.setattr(attention_module, "read_maps", reading)
    phase, rows = rig.recipe.phase(0), rig.examples.rows(0)
    batch = rig.objective.maker.batch(rows, rig.examples.times(0), phase)
    with rig.objective.reading_attention():
        forward = rig.objective.forward(batch, rig.objective.encode_prompts(rows), phase)
        assert float(forward.attention.detach().min()) > 0
        once = len(maps)
        assert once > 0
        (forward.diffusion.sum() + forward.attention.sum()).backward()
        assert len(maps) == 2 * once
        assert all(ref() is None for ref in maps[once:])


def test_two_pairs_draw_different_numbers_under_one_seed() -> None:
    """Else what is measured on several pairs would not be independent."""
    times, noises = [], []
    for start in (0, 5, 0):
        examples = Rig(recipe(), pair((2, 1), start=start)).examples
        times.append(examples.times(0))
        noises.append(torch.stack([row.normal((4,), "noise") for row in examples.rows(0)]))
    for drawn in (times, noises):
        assert torch.equal(drawn[0], drawn[2])
        assert not torch.isclose(drawn[0], drawn[1]).any()


def test_one_image_of_a_pair_that_differs_changes_all_numbers() -> None:
    rig = Rig(recipe(), pair((2, 1)))
    seeds = [
        Examples(rig.examples.images, rig.recipe, rig.examples.naming, digests).seed
        for digests in (["a", "b"], ["a", "c"], ["a", "b"])
    ]
    assert seeds[0] == seeds[2] != seeds[1]


def test_a_step_depends_on_seed_and_number_alone() -> None:
    def run(before: int, step: int, seed: int) -> tuple[dict[str, float], dict[str, Tensor]]:
        rig = Rig(recipe(f"seed={seed}"), pair((2, 1)))
        with torch.no_grad():  # the adapters' start depends on the seed too
            for n, p in enumerate(rig.online.values()):
                p.copy_(normal(tuple(p.shape), 0, 0, n, "test") * 0.1)
        for _ in range(before):
            rig.backward(0, None)
        for parameter in rig.trained.parameters():
            parameter.grad = None
        torch.rand(17)
        return rig.backward(step, None), rig.gradients()

    figures, gradients = run(0, 1, 5)
    again, again_gradients = run(2, 1, 5)
    assert again == figures
    assert all(torch.equal(g, gradients[n]) for n, g in again_gradients.items())
    assert run(0, 0, 5)[0]["loss"] != figures["loss"]
    assert run(0, 1, 6)[0]["loss"] != figures["loss"]


@pytest.mark.parametrize(
    ("counts", "micro_batch", "rows"),
    [
        ((2, 2, 2), "none", 4),
        ((2, 2, 2), "3", 4),
        ((3, 2, 1), "none", 5),
        ((3, 2, 1), "3", 5),  # one pass has rows of all samples, the other not
        ((3, 2, 1), "2", 6),
        ((3, 2, 1), "1", 6),
    ],
)
def test_the_momentum_network_is_not_run_for_the_worst_sample(
    counts: tuple[int, ...], micro_batch: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass leaves out as many rows of the worst sample as each sample has in it: the number must not depend on the
    losses, or they would be read back from the card."""
    rig = Rig(recipe(f"optimisation.micro_batch={micro_batch}"), pair(counts))
    momentum, seen, own = rig.momentum(), list[Tensor](), dict[int, list[Tensor]]()
    rig.scatter(2)
    predict, make = rig.backbone.predict, rig.objective.maker.batch

    def making(*inputs: Any) -> Batch:
        batch = make(*inputs)
        for row, noisy in zip(batch.rows, batch.noisy, strict=True):
            own.setdefault(row.samples[0], []).append(noisy)
        return batch

    def counted(noisy: Tensor, time: Tensor, condition: Condition, **options: Any) -> Prediction:
        if options.get("weights") is not None:
            seen.extend(noisy)
            assert not torch.is_grad_enabled()
        return predict(noisy, time, condition, **options)

    monkeypatch.setattr(rig.objective.maker, "batch", making)
    monkeypatch.setattr(rig.backbone, "predict", counted)
    figures = rig.backward(BALANCE, momentum)
    losses = [figures[f"diffusion.{n}"] for n in range(3)]
    worst = int(figures["worst"])
    assert losses[worst] == max(losses)
    assert len(seen) == rows
    for sample, latents in own.items():
        found = sum(any(torch.equal(noisy, other) for other in seen) for noisy in latents)
        assert found == counts[sample] if sample != worst else found == rows - sum(counts) + counts[worst]


@pytest.mark.parametrize(
    ("micro_batch", "step", "forwards"), [("none", BALANCE, 1), ("1", WARM_UP, 1), ("1", BALANCE, 2)]
)
def test_a_prompt_is_encoded_once_a_step_and_an_image_seen_twice_only_to_select(
    micro_batch: str, step: int, forwards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(recipe(f"optimisation.micro_batch={micro_batch}"), pair((2, 1)))
    momentum = rig.momentum() if step == BALANCE else None
    prompts, images = [], []
    encode, predict = rig.backbone.encode_text, rig.backbone.predict

    def encoding(texts: list[str], words: list[str]) -> Condition:
        prompts.extend(texts)
        return encode(texts, words)

    def predicting(noisy: Tensor, time: Tensor, condition: Condition, **options: Any) -> Prediction:
        images.extend([] if options.get("weights") is not None else range(len(noisy)))
        return predict(noisy, time, condition, **options)

    monkeypatch.setattr(rig.backbone, "encode_text", encoding)
    monkeypatch.setattr(rig.backbone, "predict", predicting)
    rig.backward(step, momentum)
    assert prompts == ["a photo of <person>", "a photo of <hair>"]
    assert len(images) == 3 * forwards


def test_the_regularisers_gradient_does_not_reach_the_momentum_network() -> None:
    rig = Rig(recipe(), pair())
    momentum = rig.momentum()
    for weight in momentum.weights.values():
        weight.requires_grad_(True)
    kept = {n: w.detach().clone() for n, w in momentum.weights.items()}
    rig.scatter(2)
    assert rig.backward(BALANCE, momentum)["preserve"] > 0
    assert all(w.grad is None and torch.equal(w, kept[n]) for n, w in momentum.weights.items())


def test_one_sample_alone_has_nothing_to_preserve() -> None:
    rig = Rig(recipe(), pair((2,)))
    momentum = rig.momentum()
    rig.scatter(2)
    figures = rig.backward(BALANCE, momentum)
    assert figures["preserve"] == 0
    assert figures["worst"] == 0
    assert figures["loss"] == pytest.approx(
        figures["diffusion.0"] + 0.01 / rig.objective.mean_area * figures["attention"]
    )


def test_attention_weight_is_over_the_mean_mask_area_under_mask_means_alone() -> None:
    figures = {}
    for masked in ("mask", "whole"):
        rig = Rig(recipe(f"loss.masked={masked}"), pair((2, 1), (0.75, 0.25)))
        figures[masked] = rig.backward(WARM_UP, None)
    for masked, area in (("mask", 0.5), ("whole", 1.0)):
        parts = figures[masked]
        diffusion = (parts["diffusion.0"] + parts["diffusion.1"]) / 2
        assert parts["loss"] - diffusion == pytest.approx(0.01 / area * parts["attention"], rel=1e-3)


def numbers(value: float) -> dict[str, Tensor]:
    return {"w": torch.tensor([value, 2 * value])}


def test_momentum_by_hand_over_three_steps() -> None:
    momentum, config = Momentum(numbers(1.0)), Preserve(decay=0.9)
    for value in (2.0, 0.0, -1.0):
        momentum.before_step(numbers(99.0), config)
        momentum.after_step(numbers(value), config)
    expected = 0.9 * (0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 0) - 0.1  # 0.791
    assert momentum.weights["w"].tolist() == pytest.approx([expected, 2 * expected])


def test_a_frozen_regulariser_never_changes_and_last_step_lags_by_one() -> None:
    frozen, last = Momentum(numbers(1.0)), Momentum(numbers(1.0))
    networks = ((frozen, Preserve(regulariser="frozen")), (last, Preserve(regulariser="last-step")))
    for before, after in ((1.0, 2.0), (2.0, 5.0), (5.0, -3.0)):
        for momentum, config in networks:
            momentum.before_step(numbers(before), config)
            momentum.after_step(numbers(after), config)
        assert frozen.weights["w"].tolist() == [1, 2]
        assert last.weights["w"].tolist() == [before, 2 * before]


def test_momentum_is_a_copy_of_the_online_weights() -> None:
    online = numbers(1.0)
    momentum = Momentum(online)
    online["w"].add_(1)
    assert momentum.weights["w"].tolist() == [1, 2]


def test_the_references_hard_start_copies_once() -> None:
    momentum, config = Momentum(numbers(1.0), copies_next=True), Preserve(decay=0.9)
    momentum.after_step(numbers(5.0), config)
    assert momentum.weights["w"].tolist() == [5, 10]
    momentum.after_step(numbers(6.0), config)
    assert momentum.weights["w"].tolist() == pytest.approx([5.1, 10.2])


def test_zero_lora_equals_the_base_exactly_and_the_scale_is_alpha_over_rank() -> None:
    base = backbone()
    noisy, times = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    text = Condition({"sequence": torch.randn(1, 77, 16, generator=torch.Generator().manual_seed(1))})
    plain = base.predict(noisy, times, text).output
    rig = Rig(recipe("train.0.alpha=8"), pair())
    for name, parameter in rig.online.items():
        if "lora_B" in name:
            parameter.data.zero_()
    assert torch.equal(rig.backbone.predict(noisy, times, text).output, plain)
    assert rig.recipe.train[0].rank == 4
    layer = rig.backbone.denoiser.get_submodule("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k")
    rig.scatter(3)
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.testing.assert_close(layer(x), layer.base_layer(x) + 8 / 4 * x @ a.T @ b.T)


def test_augmentation_flips_pixels_and_mask_together_and_jitters_pixels_alone() -> None:
    rig = Rig(recipe(), pair((1,)))
    mask = torch.zeros(1, 16, 16)
    mask[..., :5] = 1
    image = replace(rig.examples.images[0], mask=mask)
    draws = torch.tensor([0.9, 0.2, 0.7, 0.4])
    flipped, flipped_mask = augmented(image, Augment(jitter=0, flip=0.41), draws)
    assert torch.equal(flipped, image.pixels.flip(-1))
    assert torch.equal(flipped_mask, mask.flip(-1))
    kept, kept_mask = augmented(image, Augment(jitter=0, flip=0.39), draws)
    assert torch.equal(kept, image.pixels)
    jittered, same_mask = augmented(image, Augment(jitter=0.1, flip=0), draws)
    assert torch.equal(kept_mask, mask)
    assert torch.equal(same_mask, mask)
    change = (jittered - image.pixels).abs()
    assert 0.05 < float(change.max()) < 0.4
    assert float(jittered.abs().max()) <= 1


@pytest.mark.parametrize(("shared", "distinct"), [("true", 1), ("false", 5)])
def test_one_draw_for_all_images_only_on_request(shared: str, distinct: int) -> None:
    """Five rows that show one image, encoded as a step encodes them: as many images as draws."""
    rig, encoded = Rig(recipe(f"quirks.shared_augmentation={shared}", *UNDEGRADED), pair((3, 2))), []
    encode = rig.backbone.encode_images

    def encoding(pixels: Tensor, noise: Tensor) -> Tensor:
        encoded.append({tuple(image.flatten().tolist()) for image in pixels})
        return encode(pixels, noise)

    rig.backbone.encode_images = encoding  # type: ignore[method-assign]
    for step in (0, 1):
        rows = [replace(row, subjects=(rig.examples.images[0],)) for row in rig.examples.rows(step)]
        rig.objective.maker.batch(rows, rig.examples.times(step), rig.recipe.phase(step))
    assert [len(images) for images in encoded] == [distinct, distinct]
    assert not encoded[0] & encoded[1]


def test_stratified_times_have_one_in_each_part() -> None:
    rig = Rig(recipe("loss.stratified_times=true"), pair((3, 2)))
    orders = set()
    for step in range(20):
        parts = [int(time * 5) for time in rig.examples.times(step).tolist()]
        assert sorted(parts) == [0, 1, 2, 3, 4]
        orders.add(tuple(parts))
    assert len(orders) > 10


def test_matched_times_are_the_same_for_both_samples_and_others_in_each_image() -> None:
    """Three images of the concept, two of the component; stratified, each time still comes from a part of its own."""
    rig = Rig(recipe("loss.matched_times=true", "loss.stratified_times=true"), pair((3, 2)))
    for step in range(5):
        times = rig.examples.times(step).tolist()
        assert times[3:] == times[:2]
        assert len({int(time * 5) for time in times}) == 3
    matched, drawn = (Rig(recipe(*more), pair((3, 2))).examples.times(0) for more in (["loss.matched_times=true"], []))
    assert matched[:3].tolist() == drawn[:3].tolist()


def test_images_are_made_anew_every_so_many_steps_and_noised_anew_in_each() -> None:
    rig, encoded = Rig(recipe("data.resample_every=3", "phases.0.steps=10"), pair()), []
    encode = rig.backbone.encode_images

    def encoding(pixels: Tensor, noise: Tensor) -> Tensor:
        encoded.append(pixels)
        return encode(pixels, noise)

    rig.backbone.encode_images = encoding  # type: ignore[method-assign]

    def batch_of(rig: Rig, step: int) -> Batch:
        return rig.objective.maker.batch(rig.examples.rows(step), rig.examples.times(step), rig.recipe.phase(step))

    batches = [batch_of(rig, step) for step in range(7)]
    assert len(encoded) == 3
    assert not torch.equal(encoded[0], encoded[1])
    assert len({float(b.noisy.sum()) for b in batches}) == 7
    assert torch.equal(batches[3].mask, batches[5].mask)
    begun_there = Rig(recipe("data.resample_every=3", "phases.0.steps=10"), pair())
    assert torch.equal(batch_of(begun_there, 5).noisy, batches[5].noisy)


@pytest.mark.parametrize(("size", "passes"), [("none", 1), ("3", 2), ("1", 5)])
def test_a_micro_batch_has_rows_of_all_samples_if_it_can(size: str, passes: int) -> None:
    rig = Rig(recipe(f"optimisation.micro_batch={size}"), pair((3, 2)))
    parts = rig.objective.micro_batches(5)
    assert len(parts) == passes
    assert sorted(i for part in parts for i in part) == [0, 1, 2, 3, 4]
    for part in parts:
        assert len({rig.examples.samples[i] for i in part}) == min(2, len(part))
