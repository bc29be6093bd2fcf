"""The backbone's contract, on a U-Net with cross-attention and on a transformer with joint attention and CLIP alone.

The other families are in models/.
"""

import ast
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import magictailor
from families import sd3
from magictailor.backbones import Backbone, Condition
from magictailor.backbones.sd3 import StableDiffusion3
from tiny import backbone


def joint() -> Any:
    """Stable Diffusion 3 without T5: its pseudo-words are rows of both encoders, and their tokens come first in the text."""
    torch.manual_seed(0)
    made = sd3(with_t5=False)
    for parameter in made.transformer.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return StableDiffusion3("joint", made)


BACKBONES: dict[str, Callable[[], Any]] = {"unet": backbone, "joint": joint}
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
    joint = base.denoiser_part == "transformer"
    layers = [base.denoiser.get_submodule(name) for name in base.attention_layers("all")]
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
        offset = q.shape[2] if joint else 0
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
    # Attachments build pipelines of their own from a backbone's networks.
    outside = [f for f in source.rglob("*.py") if f.parent.name not in ("backbones", "attachments")]
    assert [place for file in outside for place in parts_of_a_pipeline(file)] == []
    assert any(parts_of_a_pipeline(file) for file in (source / "backbones").iterdir() if file.suffix == ".py")
