"""The backbone's contract, on a U-Net with cross-attention and on a transformer with joint attention."""

import ast
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import magictailor
from joint import TinyJoint
from magictailor.backbones import Backbone, Condition
from magictailor.recipe import Recipe
from magictailor.training.setup import build
from magictailor.training.step import train_step
from magictailor.training.train import train
from tiny import backbone, pair, recipe

BACKBONES: dict[str, Callable[[], Any]] = {"unet": backbone, "joint": TinyJoint}
PROMPTS = ("a photo of <person> with <hair>", "a photo of <hair>")
WORDS = (("<person>", "<hair>"), ("<hair>",))


@pytest.fixture(params=BACKBONES)
def base(request: pytest.FixtureRequest) -> Any:
    made = BACKBONES[request.param]()
    made.add_words({"<person>": "person", "<hair>": "hair"})
    return made


def inputs(base: Backbone, height: int = 16, width: int = 16) -> tuple[Tensor, Tensor, Condition]:
    random = torch.Generator().manual_seed(3)
    noisy = torch.randn(2, *base.latent_shape(height, width), generator=random)
    with torch.no_grad():
        return noisy, base.times(torch.tensor([0.2, 0.7])), base.encode_text(PROMPTS, ["<person>", "<hair>"])


def keys_and_queries(layers: Sequence[Any], joint: bool) -> tuple[list[Any], dict[str, list[Tensor]]]:
    """Hooks that keep what the layers' projections, and norms where there are some, give."""
    kept: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, args, out: kept.setdefault(name, []).append(out)

    names = {"q": "norm_q", "k": "norm_k", "text": "norm_added_k"} if joint else {"q": "to_q", "k": "to_k"}
    hooks = [getattr(layer, m).register_forward_hook(keep(n)) for layer in layers for n, m in names.items()]
    return hooks, kept


def maps_by_hand(base: Any, noisy: Tensor, times: Tensor, condition: Condition) -> Tensor:
    """Maps [N, n, queries] of WORDS, head by head and word by word, from the queries and keys that hooks see."""
    joint = isinstance(base, TinyJoint)
    names = [f"transformer_blocks.{i}.attn" for i in (0, 1)] if joint else base.attention_layers("all")
    layers = [base.denoiser.get_submodule(name) for name in names]
    hooks, kept = keys_and_queries(layers, joint)
    base.predict(noisy, times, condition)
    for hook in hooks:
        hook.remove()
    total = torch.zeros(2, 2, 16)
    for number, layer in enumerate(layers):
        q, k = kept["q"][number], kept["k"][number]
        if joint:  # [N, heads, tokens, d]; the text's keys follow the image's
            k = torch.cat([k, kept["text"][number]], 2)
        else:
            q, k = (x.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for x in (q, k))
        offset = k.shape[2] - 77
        for row, words in enumerate(WORDS):
            for n, word in enumerate(words):
                (position,) = condition.spans[row][word]
                for head in range(layer.heads):
                    scores = q[row, head] @ k[row, head].T / q.shape[-1] ** 0.5
                    column = scores.exp()[:, offset + position] / scores.exp().sum(1)
                    total[row, n] += column / layer.heads / len(layers)
    return total


@torch.no_grad()
def test_maps_equal_a_computation_by_hand(base: Any) -> None:
    noisy, times, condition = inputs(base)
    with base.reading_attention("all"):
        prediction = base.predict(noisy, times, condition, attend=WORDS)
    expected = maps_by_hand(base, noisy, times, condition).reshape(2, 2, 4, 4)
    torch.testing.assert_close(prediction.attention, expected, rtol=1e-4, atol=1e-7)
    assert bool((prediction.attention[1, 1] == 0).all())  # the second row has one word
    assert float(prediction.attention[0].std()) > 0


@torch.no_grad()
def test_reading_maps_changes_neither_the_output_nor_what_comes_after(base: Any) -> None:
    noisy, times, condition = inputs(base)
    before = base.predict(noisy, times, condition)
    processors = {n: id(m.processor) for n, m in base.denoiser.named_modules() if hasattr(m, "processor")}
    with base.reading_attention("all"):
        read = base.predict(noisy, times, condition, attend=WORDS)
        unread = base.predict(noisy, times, condition)
    after = {n: id(m.processor) for n, m in base.denoiser.named_modules() if hasattr(m, "processor")}
    assert before.attention is None
    assert unread.attention is None
    torch.testing.assert_close(read.output, before.output, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(unread.output, before.output, rtol=1e-5, atol=1e-6)
    assert processors == after


@torch.no_grad()
def test_the_maps_of_an_image_that_is_not_square_are_not_square(base: Any) -> None:
    noisy, times, condition = inputs(base, 16, 8)
    with base.reading_attention("all"):
        prediction = base.predict(noisy, times, condition, attend=WORDS)
    assert prediction.output.shape == noisy.shape
    assert prediction.attention is not None
    assert prediction.attention.shape == (2, 2, 4, 2)


@torch.no_grad()
def test_weights_take_the_place_of_parameters_in_one_call(base: Any) -> None:
    noisy, times, condition = inputs(base)
    name, value = next((n, p) for n, p in base.denoiser.named_parameters() if n.endswith("to_v.weight"))
    before = base.predict(noisy, times, condition).output
    other = base.predict(noisy, times, condition, weights={name: value * 3}).output
    assert not torch.allclose(before, other)
    torch.testing.assert_close(base.predict(noisy, times, condition).output, before)


def parts_of_a_pipeline(file: Path) -> list[str]:
    """Where this source file touches a part of a diffusers pipeline."""
    parts = {"unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler", "transformer"}
    found = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in parts:
            owner = ast.unparse(node.value)
            if owner.split(".")[-1] in ("pipeline", "pipe"):
                found.append(f"{file.name}:{node.lineno} {owner}.{node.attr}")
    return found


def test_nothing_outside_the_backbones_touches_a_part_of_a_pipeline() -> None:
    source = Path(magictailor.__file__).parent
    outside = [f for f in source.rglob("*.py") if f.parent.name != "backbones"]
    assert [place for file in outside for place in parts_of_a_pipeline(file)] == []
    assert any(parts_of_a_pipeline(file) for file in (source / "backbones").iterdir() if file.suffix == ".py")


def test_noise_at_time_zero_is_the_image_and_the_target_leads_back_to_it() -> None:
    """Flow matching: x_t - t v = x_0 for every t."""
    base = TinyJoint()
    latents, noise = torch.randn(2, 3, *base.latent_shape(16, 16))
    times = base.times(torch.tensor([0.0, 0.31, 0.99]))
    noisy, velocity = base.add_noise(latents, noise, times), base.target(latents, noise, times)
    torch.testing.assert_close(noisy[0], latents[0])
    torch.testing.assert_close(noisy - times[:, None, None, None] * velocity, latents, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [(), ("optimisation.micro_batch=1",)])
def test_every_term_of_a_step_reaches_the_words_and_the_lora(settings: tuple[str, ...]) -> None:
    """All of MagicTailor's step on joint attention: the same code, another family."""
    plan: Recipe = recipe(*settings)
    training = build(pair((2, 1)), plan, TinyJoint())
    with torch.no_grad():
        for parameter in training.trained.lora.values():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    from magictailor.training.momentum import Momentum

    momentum = Momentum({n: p * 1.1 for n, p in training.trained.online.items()})
    with training.objective.reading_attention():
        losses = train_step(training.objective, 2, momentum)
    metrics = training.objective.to_numbers(plan.phase(2), losses)
    assert all(metrics[name] > 0 for name in ("loss", "attention", "preserve"))
    gradients = {n: p.grad for n, p in training.trained.named().items()}
    assert all(g is not None and float(g.abs().max()) > 0 for n, g in gradients.items() if "text" not in n)


def test_a_run_on_joint_attention_learns(tmp_path: Path) -> None:
    """The loss falls over some steps, and everything that was replaced is back."""
    base = TinyJoint()
    processors = {n: id(m.processor) for n, m in base.denoiser.named_modules() if hasattr(m, "processor")}
    plan = recipe("phases.0.steps=20", "phases.0.lr=1e-2", "phases.1.steps=1")
    rows: list[float] = []
    train(pair(), tmp_path / "run", model=base, recipe=plan, listen=lambda e: rows.append(e.metrics["loss"]) if hasattr(e, "metrics") else None)  # fmt: skip
    assert sum(rows[-6:-1]) < 0.9 * sum(rows[:5])
    after = {n: id(m.processor) for n, m in base.denoiser.named_modules() if hasattr(m, "processor")}
    assert processors == after
