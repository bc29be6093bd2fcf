"""The maps that are read are the layers' own probabilities, and reading changes nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0
from torch import Tensor

from magictailor.backbones import Condition
from magictailor.backbones.attention import AttentionReader, Layout, MapRequest
from magictailor.backbones.sdxl import StableDiffusionXL
from magictailor.backbones.stable_diffusion import StableDiffusion
from magictailor.common.errors import InputError
from tiny import FAMILIES, PREDICTIONS, Rig, backbone, pair, pipeline, short

WORDS = {"<person>": "person"}
ATTEND = [["<person>"]] * 2


def inputs(base: StableDiffusion) -> tuple[Tensor, Tensor, Condition]:
    random = torch.Generator().manual_seed(3)
    noisy = torch.randn(2, 4, 8, 8, generator=random)
    return noisy, torch.tensor([100, 800]), base.encode_text(["a photo of <person>"] * 2, list(WORDS))


@contextmanager
def recorded(base: StableDiffusion, endings: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Inside, the latest outputs of these parts of the layers that are read, by name."""
    outputs: dict[str, Tensor] = {}
    hooks = []
    for name in base.attention_layers("all"):
        for ending in endings:
            layer = base.denoiser.get_submodule(f"{name}.{ending}")
            hooks.append(
                layer.register_forward_hook(lambda m, i, out, key=f"{name}.{ending}": outputs.update({key: out}))
            )
    yield outputs
    for hook in hooks:
        hook.remove()


def by_hand(base: StableDiffusion, position: int) -> Tensor:
    """A[n, q] of the token there: mean over heads and layers of softmax(q k / sqrt(d))."""
    with recorded(base, ("to_q", "to_k")) as outputs, torch.no_grad():
        base.predict(*inputs(base))
    total, count = torch.zeros(2, 16), 0
    for name in base.attention_layers("all"):
        heads = int(base.denoiser.get_submodule(name).heads)  # type: ignore[arg-type]
        for q, k in zip(outputs[f"{name}.to_q"].chunk(heads, -1), outputs[f"{name}.to_k"].chunk(heads, -1)):
            scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
            total, count = total + scores.softmax(-1)[..., position], count + 1
    return total / count


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_maps_equal_the_layers_probabilities(prediction: str) -> None:
    base = backbone(prediction)
    base.add_words(WORDS)
    assert {n.split(".attentions")[0] for n in base.attention_layers("all")} == {"down_blocks.1", "up_blocks.0"}
    assert {n.split(".attentions")[0] for n in base.attention_layers("up")} == {"up_blocks.0"}
    noisy, times, condition = inputs(base)
    (position,) = condition.spans[0]["<person>"]
    expected = by_hand(base, position)
    plain = base.predict(noisy, times, condition)
    assert plain.attention is None
    with base.reading_attention("all"):
        read = base.predict(noisy, times, condition, attend=ATTEND)
    assert torch.equal(read.output, plain.output)
    assert read.attention is not None
    assert read.attention.shape == (2, 1, 4, 4)
    torch.testing.assert_close(read.attention.flatten(2)[:, 0], expected)


def test_a_words_map_is_the_mean_over_its_span_and_a_missing_word_has_zeros() -> None:
    base = backbone()
    base.add_words(WORDS)
    noisy, times, condition = inputs(base)
    (first,) = condition.spans[0]["<person>"]
    spread = Condition(condition.tensors, [{"<person>": [first, first + 2]}, {"<person>": [first]}])
    with base.reading_attention("all"):
        maps = base.predict(noisy, times, spread, attend=[["<person>", "<person>"], ["<person>"]]).attention
    assert maps is not None
    expected = (by_hand(base, first) + by_hand(base, first + 2)) / 2
    torch.testing.assert_close(maps.flatten(2)[0], expected[0].expand(2, -1))
    torch.testing.assert_close(maps.flatten(2)[1, 0], by_hand(base, first)[1])
    assert maps[1, 1].count_nonzero() == 0


@pytest.mark.parametrize(("family", "side"), [("sd1", 8), ("sdxl", 4)])
def test_the_maps_are_the_nearest_that_there_are(family: str, side: int) -> None:
    """Blocks without cross-attention have none: the second of an SD 1, the first of an SDXL."""
    kind = StableDiffusionXL if family == "sdxl" else StableDiffusion
    base = kind(family, FAMILIES[family]())
    block = {8: "down_blocks.0", 4: "down_blocks.1"}[side]
    assert base.map_grid("all") == base.map_grid("up") == (side, side)
    assert all(n.startswith((block, "up_blocks")) for n in base.attention_layers("all"))
    assert len({n.split(".attentions")[0] for n in base.attention_layers("all")}) == 2
    assert all(n.startswith("up_blocks") for n in base.attention_layers("up"))
    base.add_words(WORDS)
    noisy, times, condition = inputs(base)
    with base.reading_attention("all"):
        maps = base.predict(noisy, times, condition, attend=[["<person>", "<person>"]] * 2).attention
    assert maps is not None
    assert maps.shape == (2, 2, side, side)
    assert 0 < maps.min() < maps.max() < 1


def test_a_base_without_such_maps_is_refused() -> None:
    with (
        pytest.raises(InputError, match="no attention maps of 3 x 3"),
        StableDiffusion("base", pipeline(), map_side=3).reading_attention("all"),
    ):
        pass
    bare = pipeline()
    bare.unet.register_to_config(down_block_types=("DownBlock2D",) * 2)
    with pytest.raises(InputError, match="no cross-attention"):
        StableDiffusion("base", bare)


def processors(base: StableDiffusion) -> list[int]:
    return [id(processor) for processor in base.pipeline.unet.attn_processors.values()]


@pytest.mark.parametrize("error", [None, KeyError])
def test_everything_that_reading_replaced_is_back_afterwards(error: type[Exception] | None) -> None:
    """The same processors, not only some of the same class: a base may come with its own."""
    base = backbone()
    base.add_words(WORDS)
    kept = list(base.pipeline.unet.attn_processors.values())  # alive, so that no other object can have their ids
    before = processors(base)
    noisy, times, condition = inputs(base)

    def read() -> None:
        with base.reading_attention("all"):
            base.predict(noisy, times, condition, attend=ATTEND)
            assert len(set(before) - set(processors(base))) == len(base.attention_layers("all"))
            if error is not None:
                raise error

    if error is None:
        read()
    else:
        with pytest.raises(error):
            read()
    assert processors(base) == before == [id(processor) for processor in kept]
    with pytest.raises(AssertionError, match="inside reading_attention"):
        base.predict(noisy, times, condition, attend=ATTEND)


def test_what_is_predicted_in_between_is_not_read() -> None:
    """A prediction without maps, as of the momentum network, and images that are generated, leave no trace in the maps."""
    base = backbone()
    base.add_words(WORDS)
    noisy, times, condition = inputs(base)

    def read(scale: float) -> Tensor:
        with base.reading_attention("all"):
            base.predict(noisy * 3, times, condition)
            maps = base.predict(noisy * scale, times, condition, attend=ATTEND).attention
            base.predict(noisy * 3, times, condition)
            with base.inference_mode():
                base.pipeline.unet(noisy * 2, times, condition.tensors["sequence"])
            assert maps is not None
            return maps

    first = read(1)
    assert torch.equal(read(1), first)
    assert not torch.equal(read(2), first)


def test_nothing_is_computed_for_maps_that_nobody_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    base = backbone()
    base.add_words(WORDS)
    noisy, times, condition = inputs(base)
    calls: list[float] = []
    monkeypatch.setattr(AttentionReader, "read", lambda self, query, key, scale, mask: calls.append(scale))
    with base.reading_attention("all"):
        base.predict(noisy, times, condition)
        with base.inference_mode():
            base.pipeline.unet(noisy, times, condition.tensors["sequence"])
    assert calls == []


@pytest.mark.parametrize("method", ["magictailor", "break-a-scene", "clic"])
def test_checkpointing_reads_in_the_second_pass_what_it_read_in_the_first(method: str) -> None:
    """CLiC predicts twice, and reads in one of the two: each is run again as it was."""
    gradients = []
    for checkpointing in ("false", "true"):
        rig = Rig(short(method, f"optimisation.checkpointing={checkpointing}"), pair())
        rig.trained.begin(rig.recipe.phase(rig.recipe.steps - 1))
        rig.backward(rig.recipe.steps - 1, rig.momentum())
        gradients.append(rig.gradients())
    kept, recomputed = gradients
    assert kept.keys() == recomputed.keys()
    assert len(kept) > 10
    for name, gradient in kept.items():
        torch.testing.assert_close(recomputed[name], gradient, msg=name)


class Layers(torch.nn.Module):
    """Two layers of joint attention, as in Stable Diffusion 3: image and text in one row."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.both = torch.nn.ModuleList(
            Attention(
                query_dim=16, added_kv_proj_dim=16, dim_head=8, heads=2, bias=True, context_pre_only=True,
                processor=JointAttnProcessor2_0(), **options,
            )
            for _ in range(2)
        )  # fmt: skip

    def forward(self, image: Tensor, text: Tensor) -> list[Tensor]:
        return [layer(image, encoder_hidden_states=text)[0] for layer in self.both]


@pytest.mark.parametrize("options", [{}, {"qk_norm": "rms_norm", "eps": 1e-6}], ids=["plain", "normed"])
def test_joint_attention_is_read_over_image_and_text(options: dict[str, Any]) -> None:
    """The softmax runs over the image's keys and the text's; the words' columns are among the last."""
    layers = Layers(**options)
    for parameter in layers.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    image, text = torch.randn(2, 6, 16), torch.randn(2, 5, 16)
    weights = torch.zeros(2, 1, 5)
    weights[:, 0, 3] = 1

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (2, 8)).transpose(1, 2)

    def normed(norm: Any, x: Tensor) -> Tensor:
        return heads(x) if norm is None else norm(heads(x))

    expected = []
    for layer in layers.both:
        part: Any = layer
        query = normed(part.norm_q, part.to_q(image))
        key = torch.cat([normed(part.norm_k, part.to_k(image)), normed(part.norm_added_k, part.add_k_proj(text))], 2)
        probabilities = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1)
        expected.append(probabilities[..., 6 + 3].mean(1))
    plain = layers(image, text)
    reader = AttentionReader(list(layers.both))
    with reader.reading(MapRequest(weights, Layout(slice(0, 6), slice(6, None)))) as maps:
        read = layers(image, text)
    reader.close()
    assert [torch.equal(a, b) for a, b in zip(read, plain)] == [True, True]
    torch.testing.assert_close(torch.stack(maps)[:, :, 0], torch.stack(expected))
    assert all(type(layer.processor) is JointAttnProcessor2_0 for layer in layers.both)


def test_a_word_in_the_prompt_is_found_at_its_position() -> None:
    base = backbone()
    base.add_words({"<person>": "person", "<long-hair>": "long hair"})
    condition = base.encode_text(["<long-hair>, on a <person>", "<person>"], ["<person>", "<long-hair>"])
    assert condition.spans[0]["<long-hair>"] == [1]  # 0 is the start mark
    assert condition.spans[0]["<person>"][0] > 3
    assert condition.spans[1] == {"<person>": [1], "<long-hair>": []}


def test_a_word_starts_from_the_mean_of_its_labels_tokens() -> None:
    base = backbone()
    table = base.pipeline.text_encoder.get_input_embeddings().weight.detach().clone()
    ids = base.pipeline.tokenizer("long hair", add_special_tokens=False).input_ids
    assert len(ids) > 1
    starts = base.add_words({"<long-hair>": "long hair"})
    torch.testing.assert_close(starts["<long-hair>"]["clip"], table[ids].mean(0, keepdim=True))
    after = base.pipeline.text_encoder.get_input_embeddings().weight
    assert torch.equal(after[: len(table)], table)
    assert torch.equal(after[len(table) :], starts["<long-hair>"]["clip"])
