"""Training today's families: every term of a step, killed and resumed runs, methods that apply."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
)

import magictailor
from families import SIZE
from family_inputs import PROMPTS, SHORT, base, every_family, gradients
from magictailor.backbones import load_backbone
from magictailor.common.errors import InputError
from magictailor.common.events import CheckpointSaved
from magictailor.exports import export
from magictailor.training.setup import build
from magictailor.training.step import train_step
from magictailor.training.train import make_recipe
from tiny import pair, train


@every_family
def test_every_term_of_a_step_reaches_the_lora(family: str) -> None:
    backbone = base(family)
    training = build(pair((2, 1)), make_recipe(backbone, settings=SHORT), backbone)
    with torch.no_grad():
        for parameter in training.trained.lora.values():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    from magictailor.training.momentum import Momentum

    momentum = Momentum({n: p * 1.1 for n, p in training.trained.online.items()})
    with training.objective.reading_attention():
        losses = train_step(training.objective, 2, momentum)
    metrics = training.objective.to_numbers(training.recipe.phase(2), losses)
    assert all(metrics[name] > 0 for name in ("loss", "attention", "preserve"))
    reached = [n for n, p in training.trained.lora.items() if p.grad is not None and float(p.grad.abs().max()) > 0]
    assert len(reached) >= 0.9 * len(training.trained.lora)  # the last block's text stream changes nothing


def killed_and_resumed(folder: Path, output: Path) -> Path:
    class Killed(Exception):
        pass

    def kill(event: object) -> None:
        if isinstance(event, CheckpointSaved) and event.step == 3:
            raise Killed

    settings = [*SHORT, "sampling.preview_every=0"]
    import magictailor.training.loop as loop

    saved, loop.SAVE_SECONDS = loop.SAVE_SECONDS, 0.0
    try:
        with pytest.raises(Killed):
            train(pair((2, 1)), output, model=str(folder), settings=settings, listen=kill, device="cpu")
    finally:
        loop.SAVE_SECONDS = saved
    return train(pair((2, 1)), output, model=str(folder), settings=settings, device="cpu")


@every_family
def test_a_killed_run_that_goes_on_equals_one_that_was_left_alone(
    family: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """And a finished run generates, exports, and gives the same image in plain diffusers."""
    folder = folders(family)
    alone = train(pair((2, 1)), tmp_path / "alone", model=str(folder), settings=SHORT, device="cpu")
    resumed = killed_and_resumed(folder, tmp_path / "resumed")
    name = "pytorch_lora_weights.safetensors"
    assert (alone / name).read_bytes() == (resumed / name).read_bytes()
    assert (alone / "metrics.jsonl").read_text() == (resumed / "metrics.jsonl").read_text()

    run = magictailor.load(alone, device="cpu")
    (item,) = run.generate(PROMPTS[0], seed=5)
    text = "a photo of sks person with ktn hair"
    export(alone, tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert text in readme
    assert "<" not in readme.split("pipe(")[1]

    plain: Any = DiffusionPipeline.from_pretrained(str(folder))
    plain.set_progress_bar_config(disable=True)
    plain.load_lora_weights(str(tmp_path / "out"), weight_name=name)
    call = run.backbone.guidance_inputs(run.recipe.sampling.guidance)
    more = {"use_resolution_binning": False} if family == "sana" else {}
    image = plain(
        prompt=text,
        **call,
        **more,
        num_inference_steps=2,
        height=SIZE,
        width=SIZE,
        generator=[torch.Generator().manual_seed(5)],
    ).images[0]
    difference = max(abs(a - b) for a, b in zip(item.image.tobytes(), image.tobytes(), strict=True))
    assert difference <= 1  # our decoder works in float32 whatever the rest does


@pytest.mark.parametrize("settings", [["optimisation.micro_batch=1"], ["optimisation.checkpointing=true"]])
@every_family
def test_micro_batches_and_checkpointing_give_the_same_gradients(family: str, settings: list[str]) -> None:
    found = [gradients(family, more) for more in ([], settings)]
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@every_family
def test_the_text_encoder_leaves_memory_once_the_prompts_are_encoded(
    family: str, folders: Callable[[str], Path]
) -> None:
    backbone: Any = load_backbone(str(folders(family)), device="cpu")
    build(pair(), make_recipe(backbone, settings=SHORT), backbone)
    assert not backbone.text_encoders
    known = backbone.encode_text([""]).tensors["sequence"]
    new = backbone.encode_text(["a photo of a hat"]).tensors[
        "sequence"
    ]  # it comes back for a new prompt, and goes again
    assert float((known - new[:, : known.shape[1]] if new.shape[1] >= known.shape[1] else new).abs().max()) > 0
    assert not backbone.text_encoders


@pytest.mark.parametrize("method", ["textual-inversion", "custom-diffusion", "break-a-scene", "clic"])
def test_methods_that_need_what_a_family_does_not_have_are_refused_in_one_line(method: str) -> None:
    backbone = base("z-image")
    with pytest.raises(InputError, match="which is not possible on z-image"):
        build(pair(), make_recipe(backbone, method, ["data.size=32"]), backbone)
    assert not getattr(backbone.denoiser, "peft_config", None)


@pytest.mark.parametrize("method", ["dreambooth", "plain-lora", "without-dm-deg", "without-ds-bal"])
def test_methods_that_make_sense_there_train(method: str, tmp_path: Path) -> None:
    backbone = base("flux")
    settings = [s for s in SHORT if not s.startswith("phases.1")] if method == "dreambooth" else SHORT
    more = ["loss.prior.images=2"] if method == "dreambooth" else []
    run = train(pair(), tmp_path / "run", model=backbone, method=method, settings=[*settings, *more])
    assert json.loads((run / "run.json").read_text())["finished"]


def test_prodigy_goes_on_with_the_rate_that_it_had_found(tmp_path: Path, folders: Callable[[str], Path]) -> None:
    resumed = killed_and_resumed(folders("z-image"), tmp_path / "run")
    assert json.loads((resumed / "run.json").read_text())["recipe"]["optimisation"]["optimizer"] == "prodigy"
