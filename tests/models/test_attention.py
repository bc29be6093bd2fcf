"""Attention maps of today's families, against a computation by hand and an independent viewer."""

from typing import Any

import pytest
import torch
from torch import Tensor

from families import BUILDERS, SIZE
from family_inputs import GUIDED, PROMPTS, SHORT, TEXTS, WORDS, base, every_family, inputs
from magictailor.common.errors import InputError
from magictailor.training.setup import build
from magictailor.training.step import train_step
from magictailor.training.train import make_recipe
from tiny import pair


@pytest.mark.parametrize("over", ["all", "text"])
@every_family
@torch.no_grad()
def test_maps_equal_a_computation_by_hand(family: str, over: Any) -> None:
    backbone = base(family)
    noisy, times, condition = inputs(backbone)
    with backbone.reading_attention("all", over):
        read = backbone.predict(noisy, times, condition, attend=WORDS)
    (name,) = backbone.attention_layers("all")
    query, key, image, text, mask = queries_and_keys(family, backbone, name, noisy, times, condition)
    scores = query[:, :, image] @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    scores = scores if mask is None else scores + mask
    shown = scores[..., text].softmax(-1) if over == "text" else scores.softmax(-1)[..., text]
    side = read.attention.shape[-1]
    for row, words in enumerate(WORDS):
        for number, word in enumerate(words):
            columns = shown[row, :, :, condition.spans[row][word]].mean(-1).mean(0)
            torch.testing.assert_close(read.attention[row, number], columns.reshape(side, side), rtol=1e-3, atol=1e-6)
    assert bool((read.attention[1, 1] == 0).all())
    assert float(read.attention[0].std()) > 0


def queries_and_keys(family: str, backbone: Any, name: str, *arguments: Any) -> tuple[Any, ...]:
    """From a hook on the layer, by the family's own published formulas: projections, norms, rotations."""
    layer, kept = backbone.denoiser.get_submodule(name), dict[str, Any]()

    def keep(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept.update(kwargs, hidden_states=args[0] if args else kwargs["hidden_states"])

    hook = layer.register_forward_pre_hook(keep, with_kwargs=True)
    backbone.predict(*arguments)
    hook.remove()
    hidden, encoded = kept["hidden_states"], kept.get("encoder_hidden_states")
    heads = layer.heads

    def split(x: Tensor, norm: Any) -> Tensor:
        divided = x.unflatten(-1, (heads, -1))
        return divided if norm is None else norm(divided)

    if family == "sana":
        query = layer.to_q(hidden) if layer.norm_q is None else layer.norm_q(layer.to_q(hidden))
        key = layer.to_k(encoded) if layer.norm_k is None else layer.norm_k(layer.to_k(encoded))
        mask = kept["attention_mask"]
        everything = slice(None)
        return (
            split(query, None).transpose(1, 2), split(key, None).transpose(1, 2), everything, everything,
            None if mask is None else mask[:, None],
        )  # fmt: skip
    query, key = split(layer.to_q(hidden), layer.norm_q), split(layer.to_k(hidden), layer.norm_k)
    if family == "z-image":
        tokens = 64

        def turned(x: Tensor) -> Tensor:
            pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
            return torch.view_as_real(pairs * kept["freqs_cis"][:, :, None]).flatten(3)

        query, key, mask = turned(query), turned(key), kept["attention_mask"]
        added = None if mask is None else torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)[:, None, None]
        length = arguments[2].tensors["sequence"].shape[1]
        return query.transpose(1, 2), key.transpose(1, 2), slice(0, tokens), slice(tokens, tokens + length), added
    added_query = split(layer.add_q_proj(encoded), layer.norm_added_q)
    added_key = split(layer.add_k_proj(encoded), layer.norm_added_k)
    length, tokens = encoded.shape[1], hidden.shape[1]
    if family == "sd3":
        query, key = torch.cat([query, added_query], 1), torch.cat([key, added_key], 1)
        return query.transpose(1, 2), key.transpose(1, 2), slice(0, tokens), slice(tokens, None), None
    rotation = kept["image_rotary_emb"]
    if family == "qwen-image":

        def turned_by(x: Tensor, angles: Tensor) -> Tensor:
            pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
            return torch.view_as_real(pairs * angles[:, None]).flatten(3)

        query, key = (turned_by(x, rotation[0]) for x in (query, key))
        added_query, added_key = (turned_by(x, rotation[1]) for x in (added_query, added_key))
    query, key = torch.cat([added_query, query], 1), torch.cat([added_key, key], 1)
    if family.startswith("flux"):
        cos, sin = (part[None, :, None] for part in rotation)

        def rotated(x: Tensor) -> Tensor:
            real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
            return x * cos + torch.stack([-imaginary, real], -1).flatten(3) * sin

        query, key = rotated(query), rotated(key)
    mask = kept.get("encoder_hidden_states_mask")
    added = None
    if mask is not None:
        whole = torch.cat([mask, torch.ones(len(mask), tokens, dtype=torch.bool)], 1)
        added = torch.zeros(whole.shape).masked_fill(~whole, -torch.inf)[:, None, None]
    return query.transpose(1, 2), key.transpose(1, 2), slice(length, None), slice(0, length), added


@pytest.mark.parametrize("family", ["flux", "sana", "z-image"])
def test_maps_of_large_images_are_read_head_by_head_with_the_same_gradients(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for limit in (2**40, 0):
        monkeypatch.setattr("magictailor.backbones.attention.MANY_SCORES", limit)
        backbone = base(family)
        training = build(pair(), make_recipe(backbone, settings=[*SHORT, "phases.0.attention.weight=10"]), backbone)
        with torch.no_grad():
            for parameter in training.trained.lora.values():
                parameter.fill_(0.05)
        with training.objective.reading_attention():
            train_step(training.objective, 0, None)
        found.append({n: p.grad for n, p in training.trained.lora.items()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@every_family
@torch.no_grad()
def test_reading_maps_changes_nothing(family: str) -> None:
    backbone = base(family)
    noisy, times, condition = inputs(backbone)
    before = backbone.predict(noisy, times, condition).output
    processors = {n: id(m.processor) for n, m in backbone.denoiser.named_modules() if hasattr(m, "processor")}
    with backbone.reading_attention("up"):
        read = backbone.predict(noisy, times, condition, attend=WORDS)
    after = {n: id(m.processor) for n, m in backbone.denoiser.named_modules() if hasattr(m, "processor")}
    assert torch.equal(read.output, before)
    assert processors == after


@every_family
def test_blocks_are_chosen_by_their_numbers(family: str) -> None:
    backbone = base(family)
    (layer,) = backbone.attention_layers((1,))
    assert ".1." in layer
    with pytest.raises(InputError, match="has blocks 0 to"):
        backbone.attention_layers((77,))


@pytest.mark.parametrize("family", [family for family in BUILDERS if family != "qwen-image"])
@torch.no_grad()
def test_maps_equal_those_of_an_independent_viewer(family: str) -> None:
    """attention-map-diffusers watches one step of the pipeline (it does not know Qwen-Image's layers)."""
    viewer = pytest.importorskip(
        "attention_map_diffusers",
        reason="its torchvision may not fit torch: pip install --no-deps attention-map-diffusers ftfy",
    )
    backbone = base(family)
    seen: list[Tensor] = []
    own = backbone.denoiser.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        seen.append(args[0] if args else kwargs["hidden_states"])
        return own(*args, **kwargs)

    backbone.denoiser.forward = forward
    call = backbone.pipeline_inputs([PROMPTS[0]], {"z-image": 0.0, **GUIDED}.get(family, 1.0))
    with viewer.AttentionCapture(backbone.pipeline, mode="exact", heads="mean") as capture:
        backbone.pipeline(
            **call, num_inference_steps=1, height=SIZE, width=SIZE, output_type="latent",
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
    del backbone.denoiser.forward
    (layer,) = backbone.attention_layers("all")
    (record,) = [r for r in capture.compute().records if r.layer_id == f"transformer.{layer}"]
    first = seen[0]
    noisy = first[0][:, 0][None] if isinstance(first, list) else first
    shape = backbone.latent_shape(SIZE, SIZE)
    if noisy.ndim == 3:
        flat = family.startswith("flux2")
        noisy = noisy.transpose(1, 2).reshape(1, *shape) if flat else backbone._output(noisy, torch.zeros(1, *shape))
    time = torch.tensor([record.timestep])
    time = 1 - time if family == "z-image" else time if family.startswith("flux") else time / 1000
    condition = backbone.encode_text([PROMPTS[0]], list(TEXTS))
    with backbone.reading_attention("all"):
        read = backbone.predict(noisy.float(), time, condition, attend=[list(TEXTS)])
    side = read.attention.shape[-1]
    for number, word in enumerate(TEXTS):
        expected = record.data[0, 0][:, condition.spans[0][word]].mean(-1).reshape(side, side)
        torch.testing.assert_close(read.attention[0, number], expected, rtol=2e-3, atol=1e-6)
