"""Training of the IP-Adapter: it begins as nothing, resumes exactly, never hears the style's name, and pipelines load it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from transformers import CLIPImageProcessor

from magictailor.attachments import Style
from magictailor.attachments.sampling import load_attachments, sample_attached
from magictailor.backbones import load_backbone
from magictailor.backbones.sampling import SamplingOptions, sample
from magictailor.common.errors import InputError
from magictailor.common.events import Event, Progress
from magictailor.common.pictures import save_png
from magictailor.common.tensors import read_tensors
from magictailor.generation.protocol import TREATMENTS
from magictailor.world.judge import load_judge
from magictailor.world.judgement import judged
from magictailor.world.render import render
from magictailor.world.scene import random_scene
from magictailor.world.tokenizer import build_tokenizer
from magictailor.world.training.style import (
    STYLES,
    Styled,
    StyleTraining,
    Treated,
    attach_new,
    prepared,
    train_style,
)
from magictailor.world.training.style_teacher import Teacher, attended, readers

TINY = StyleTraining(
    pictures=48, captions=2, held_out=8, chunk=16, batch=2, steps=3, lr=0.1, samples=0, save_seconds=1e-3
)


class _Stop(Exception):
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("style") / "whole"
    train_style(folder, TINY, workers=1)
    return folder


def test_an_interrupted_training_gives_the_same_adapter(whole: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.task == "style" and event.done == 2:
            raise _Stop

    with pytest.raises(_Stop):
        train_style(tmp_path / "parts", TINY.model_copy(update={"save_seconds": 0.0}), workers=1, listen=stop)
    assert train_style(tmp_path / "parts", TINY, workers=1)["steps"] == 3
    for file in ("ip-adapter.safetensors", "image_encoder/model.safetensors"):
        first, second = (read_tensors(folder / "style" / file) for folder in (whole, tmp_path / "parts"))
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert sum(f.stat().st_size for f in (whole / "style").rglob("*.safetensors")) < 1.2e6
    with pytest.raises(InputError, match="batch differ"):
        train_style(tmp_path / "parts", TINY.model_copy(update={"batch": 4}), workers=1)


def test_pipelines_load_it_and_its_picture_changes_the_image(whole: Path, tmp_path: Path) -> None:
    save_png(Image.fromarray(render(random_scene(3)).image), tmp_path / "picture.png")
    base, options = load_backbone("embedded", device="cpu"), SamplingOptions(2, 4.0)
    request = Style(
        tmp_path / "picture.png", strength=2, layers="all", model=str(whole / "style" / "ip-adapter.safetensors"),
        encoder=str(whole / "style" / "image_encoder"),
    )  # fmt: skip
    before = list(sample(base, ["a photo of a kid"], [0], options))
    loaded = load_attachments(base, [request], 2)
    (styled,) = sample_attached(base, ["a photo of a kid"], [0], options, loaded)
    (after,) = sample(base, ["a photo of a kid"], [0], options)
    assert after.tobytes() == before[0].tobytes()
    assert styled.tobytes() != before[0].tobytes()


def test_a_new_adapter_changes_nothing() -> None:
    unet: Any = load_backbone("embedded", device="cpu", precision="fp32").networks["unet"]
    unet.set_attn_processor(AttnProcessor())  # fused attention on a CPU rounds its exponentials
    random = torch.Generator().manual_seed(0)
    noisy, text = torch.randn(2, 16, 16, 16, generator=random), torch.randn(2, 77, 160, generator=random)
    times, embeddings = torch.tensor([10, 500]), torch.randn(2, 1, 96, generator=random)
    with torch.no_grad():
        before = unet(noisy, times, text).sample
        attach_new(unet)
        after = unet(noisy, times, text, added_cond_kwargs={"image_embeds": [embeddings]}).sample
    torch.testing.assert_close(after, before)


def test_the_teacher_asks_for_what_the_name_changes_in_each_layer() -> None:
    unet: Any = load_backbone("embedded", device="cpu", precision="fp32").networks["unet"]
    unet.set_attn_processor(AttnProcessor())
    random = torch.Generator().manual_seed(0)
    noisy, named = (torch.randn(shape, generator=random) for shape in [(2, 16, 16, 16), (2, 77, 160)])
    (layer, *_) = readers(unet)
    query = torch.randn(2, 256, layer.to_q.in_features, generator=random)
    with torch.no_grad():
        own = layer(query, encoder_hidden_states=named) - layer.to_out[0].bias
        torch.testing.assert_close(attended(layer, layer.to_q(query), layer.to_k(named), layer.to_v(named)), own)
        attach_new(unet)
        styled, teacher = Styled(unet), Teacher(unet)
        styled.embeddings, plain = torch.randn(2, 96, generator=random), torch.zeros(2, 77, 160)

        def error(tokens: torch.Tensor) -> float:
            styled(noisy, torch.tensor([10, 500]), plain, return_dict=False)
            return float(teacher.error(tokens, plain, named))

        assert error(styled.tokens()) == pytest.approx(1)  # a new adapter adds nothing
        for reader in readers(unet):
            reader.processor.to_v_ip[0].weight.copy_(reader.to_v.weight)
        assert error(named) == pytest.approx(0, abs=1e-6)  # an adapter that reads what the caption would have said


def test_the_encoder_sees_what_the_image_processor_makes() -> None:
    images = np.stack([render(random_scene(seed)).image for seed in range(2)])
    size = {"height": 128, "width": 128}
    expected = CLIPImageProcessor(size={"shortest_edge": 128}, crop_size=size)(
        [Image.fromarray(i) for i in images], return_tensors="pt"
    )
    torch.testing.assert_close(prepared(torch.from_numpy(images)), expected.pixel_values, atol=1e-5, rtol=1e-5)


def test_two_renders_share_a_style_that_no_caption_names() -> None:
    treated = Treated(0, 500, 2)
    others = treated.others()
    assert torch.equal(treated.style[others], treated.style)
    assert not (others == torch.arange(500)).any()
    shown, drawn = treated.draw(400, torch.Generator().manual_seed(0))
    assert torch.equal(treated.style[shown], treated.style[drawn])
    assert not (shown == drawn).any()
    counts = torch.bincount(treated.style[shown], minlength=len(STYLES))
    assert counts.min() > 20  # equally frequent, although four fifths of the renders have none
    tokenizer = build_tokenizer()
    words = tokenizer.batch_decode(treated.tokens.flatten(0, 1), skip_special_tokens=True)
    assert not any(treatment.lower() in text.lower() for text in words for treatment in TREATMENTS.values())
    assert any("watercolor" in TREATMENTS[s] for s in STYLES if s)


def test_the_shipped_adapter_takes_over_the_style_of_a_picture(tmp_path: Path) -> None:
    base, options, judge = load_backbone("embedded", device="cpu"), SamplingOptions(25, 4.0), load_judge()
    for treatment in ("comic", "pixel"):
        save_png(Image.fromarray(render(replace(random_scene(3), treatment=treatment)).image), tmp_path / "picture.png")
        loaded = load_attachments(base, [Style(tmp_path / "picture.png")], 25)
        assert loaded[0].record()["layers"] == "all"
        (styled,) = sample_attached(base, ["a photo of a robot, on the beach"], [0], options, loaded)
        (seen,) = judged(judge, [styled])
        assert (seen.treatment, seen.context, seen.category) == (treatment, "beach", "robot")
