"""The maps that are read are the layers' own probabilities, and reading changes nothing."""

import pytest
import torch
from torch import Tensor

from magictailor.backbones import Backbone, Condition
from magictailor.backbones.attention import AttentionMaps
from magictailor.backbones.sdxl import StableDiffusionXL
from magictailor.backbones.stable_diffusion import StableDiffusion
from magictailor.common.errors import InputError
from tiny import DEFAULTS, FAMILIES, PREDICTIONS, backbone, pipeline

WORDS = {"<person>": "person"}


def inputs(base: Backbone) -> tuple[Tensor, Tensor, Condition]:
    random = torch.Generator().manual_seed(3)
    noisy = torch.randn(2, 4, 8, 8, generator=random)
    return noisy, torch.tensor([100, 800]), base.encode_text(["a photo of <person>"] * 2, list(WORDS))


def by_hand(base: Backbone, place: int) -> Tensor:
    """A[n, q] of the token at ``place``: mean over heads and layers of softmax(q k / sqrt(d)), from hooks."""
    seen: dict[str, Tensor] = {}
    hooks = []
    for name in base.attention_layers():
        for part in ("to_q", "to_k"):
            layer = base.denoiser.get_submodule(f"{name}.{part}")
            hooks.append(layer.register_forward_hook(lambda m, i, out, key=f"{name}.{part}": seen.update({key: out})))
    with torch.no_grad():
        base.predict(*inputs(base))
    for hook in hooks:
        hook.remove()
    total, count = torch.zeros(2, 16), 0
    for name in base.attention_layers():
        heads = base.denoiser.get_submodule(name).heads
        for q, k in zip(seen[f"{name}.to_q"].chunk(heads, -1), seen[f"{name}.to_k"].chunk(heads, -1)):
            scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
            total, count = total + scores.softmax(-1)[..., place], count + 1
    return total / count


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_maps_equal_the_layers_probabilities(prediction: str) -> None:
    base = backbone(prediction)
    base.add_words(WORDS)
    assert {n.split(".attentions")[0] for n in base.attention_layers()} == {"down_blocks.1", "up_blocks.0"}
    noisy, times, condition = inputs(base)
    (place,) = condition.positions[0]["<person>"]["clip"]
    expected = by_hand(base, place)
    plain = base.predict(noisy, times, condition)
    maps = AttentionMaps(base.denoiser, base.attention_layers())
    tokens = torch.zeros(condition.sequence.shape[:2])
    tokens[:, place] = 1
    maps.record(tokens[:, None])
    read = base.predict(noisy, times, condition)
    assert torch.equal(read, plain)
    mean = maps.mean()
    assert mean.shape == (2, 1, 4, 4)
    torch.testing.assert_close(mean.flatten(2)[:, 0], expected)


@pytest.mark.parametrize(("family", "side"), [("sd1", 8), ("sdxl", 4)])
def test_the_maps_are_the_nearest_that_there_are(family: str, side: int) -> None:
    """Blocks without cross-attention have none: the second of an SD 1, the first of an SDXL."""
    kind = StableDiffusionXL if family == "sdxl" else StableDiffusion
    base = kind(family, FAMILIES[family](), DEFAULTS)
    block = {8: "down_blocks.0", 4: "down_blocks.1"}[side]
    assert base.map_side == side
    assert all(n.startswith((block, "up_blocks")) for n in base.attention_layers())
    assert len({n.split(".attentions")[0] for n in base.attention_layers()}) == 2
    noisy, times, condition = inputs(base)
    maps = AttentionMaps(base.denoiser, base.attention_layers())
    count, length = condition.sequence.shape[:2]
    maps.record(torch.full((count, 2, length), 1 / length))
    base.predict(noisy, times, condition)
    assert maps.mean().shape == (2, 2, side, side)


def test_a_base_without_such_maps_is_refused() -> None:
    with pytest.raises(InputError, match="no attention maps of 3 x 3"):
        _ = StableDiffusion("base", pipeline(), DEFAULTS, map_side=3).attention_layers()
    bare = pipeline()
    bare.unet.register_to_config(down_block_types=("DownBlock2D",) * 2)
    with pytest.raises(InputError, match="no cross-attention"):
        StableDiffusion("base", bare, DEFAULTS)


def test_nothing_is_read_while_suspended_and_again_afterwards() -> None:
    base = backbone()
    base.add_words(WORDS)
    maps = AttentionMaps(base.denoiser, base.attention_layers())
    noisy, times, condition = inputs(base)
    tokens = torch.zeros(condition.sequence.shape[:2])
    tokens[:, 4] = 1

    def read(scale: float) -> Tensor:
        maps.record(tokens[:, None])
        base.predict(noisy * scale, times, condition)
        with maps.suspended():
            base.predict(noisy * 3, times, condition)
        return maps.mean()

    first = read(1)
    assert torch.equal(read(1), first)
    assert not torch.equal(read(2), first)


def test_a_word_in_the_prompt_is_found_at_its_place() -> None:
    base = backbone()
    base.add_words({"<person>": "person", "<long-hair>": "long hair"})
    condition = base.encode_text(["<long-hair>, on a <person>", "<person>"], ["<person>", "<long-hair>"])
    assert condition.positions[0]["<long-hair>"]["clip"] == [1]  # 0 is the start mark
    assert condition.positions[0]["<person>"]["clip"][0] > 3
    assert condition.positions[1] == {"<person>": {"clip": [1]}, "<long-hair>": {"clip": []}}


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
