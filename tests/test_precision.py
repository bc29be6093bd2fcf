"""Frozen weights in half precision: what is trained stays full, and a run resumes to the byte there too."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from magictailor import load
from magictailor.backbones import Backbone, load_backbone
from magictailor.common.errors import InputError
from magictailor.training.run_folder import LORA_FILE, WORDS_FILE, read_run
from magictailor.training.setup import build
from tiny import FAMILIES, advance, interrupted_and_resumed, pair, recipe, train

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp(request.param) / "base"
    pipeline = FAMILIES[request.param]()
    pipeline.vae.register_to_config(force_upcast=request.param == "sdxl")
    pipeline.save_pretrained(folder)
    return folder


def opened(base: Path, precision: str) -> Backbone:
    return load_backbone(str(base), device="cpu", precision=precision)


@pytest.mark.parametrize("precision", HALVES)
def test_what_is_frozen_is_half_and_what_is_trained_is_full(precision: str, base: Path) -> None:
    training = build(pair(), recipe(), opened(base, precision))
    pipeline: Any = training.backbone.pipeline
    careful = precision == "fp16" and pipeline.vae.config.force_upcast  # SDXL's autoencoder overflows in fp16
    assert pipeline.vae.dtype == (torch.float32 if careful else HALVES[precision])
    kinds = {n: p.dtype for n, p in pipeline.unet.named_parameters()}
    assert {d for n, d in kinds.items() if "lora" in n} == {torch.float32}
    assert {d for n, d in kinds.items() if "lora" not in n} == {HALVES[precision]}
    assert {p.dtype for p in training.trained.parameters()} == {torch.float32}
    before = {n: p.detach().clone() for n, p in training.trained.named().items()}
    inputs = set()
    for name, module in pipeline.unet.named_modules():
        if name.endswith(("lora_A.default", "lora_B.default")):
            module.register_forward_pre_hook(lambda _, given: inputs.add(given[0].dtype))
    figures = advance(training)
    assert inputs == {HALVES[precision]}  # a copy in full would be kept for each layer
    moved = {n for n, p in training.trained.named().items() if not torch.equal(p, before[n])}
    assert {n for n in moved if n.startswith("words.") or ".lora_B." in n} == {
        n for n in before if n.startswith("words.") or ".lora_B." in n
    }
    whole = advance(build(pair(), recipe(), opened(base, "fp32")))
    for name in ("loss", "diffusion.0", "diffusion.1", "attention"):
        assert figures[name] == pytest.approx(whole[name], rel=0.05)


@pytest.mark.parametrize("precision", HALVES)
def test_a_run_resumes_to_the_byte_and_generates(
    precision: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magictailor.training.loop.SAVE_SECONDS", 0.0)  # after each step
    whole = train(pair(), tmp_path / "whole", model=opened(base, precision), recipe=recipe())

    again = interrupted_and_resumed(tmp_path / "run", lambda: opened(base, precision), at=3)
    for name in (LORA_FILE, WORDS_FILE):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
        assert {t.dtype for t in load_file(again / name).values()} == {torch.float32}
    assert read_run(again).precision == precision
    with pytest.raises(InputError, match=r"another run \(precision differs"):
        train(pair(), again, model=opened(base, "fp32"), recipe=recipe())
    run = load(again, device="cpu")
    assert {run.pipeline.unet.dtype, run.pipeline.vae.dtype} == {HALVES[precision]}
    (half,) = run.generate("<person> with <hair>")
    (full,) = load(again, device="cpu", precision="fp32").generate("<person> with <hair>")
    difference = np.abs(np.asarray(half.image, int) - np.asarray(full.image, int))
    assert difference.mean() < 8
    assert np.asarray(half.image).std() > 5


def test_a_gradient_that_overflows_leaves_the_step_out(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    FAMILIES["sd1"]().save_pretrained(folder)
    training = build(pair(), recipe(), opened(folder, "fp16"))
    training.state.scaler.load_state_dict({**training.state.scaler.state_dict(), "scale": 2.0**40})
    before = {n: p.detach().clone() for n, p in training.trained.named().items()}
    advance(training)
    assert all(torch.equal(p, before[n]) for n, p in training.trained.named().items())
    assert training.state.scaler.get_scale() < 2.0**40
    for _ in range(2):
        training.state.scaler.update(1024.0)
    advance(training)
    assert any(not torch.equal(p, before[n]) for n, p in training.trained.named().items())


def test_a_whole_embedding_matrix_wants_full_precision(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"precision bf16: .* trains the embedding matrix itself; choose fp32"):
        train(pair(), tmp_path / "run", model=opened(base, "bf16"), recipe=recipe(method="magictailor-reference"))
    assert not (tmp_path / "run").exists()


def test_an_unknown_device_or_precision_is_refused(base: Path) -> None:
    for device, precision, words in (("tpu", None, "device tpu"), ("cuda:99", None, "choose cpu"), ("cpu", "fp8", "fp32, bf16, fp16")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            load_backbone(str(base), device=device, precision=precision)
