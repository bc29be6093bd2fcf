"""What fits a small card: quantized weights, offloaded networks, presets, and the memory that a run expects."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import magictailor.backbones.pipeline_backbone as placement
from magictailor import load
from magictailor.backbones import Backbone, Condition, load_backbone
from magictailor.backbones.presets import COSTS, FAST, NAMES, PRESETS, Preset, preset_for
from magictailor.backbones.runtime import CPU, Runtime, with_preset
from magictailor.backbones.sdxl import StableDiffusionXL
from magictailor.backbones.stable_diffusion import StableDiffusion
from magictailor.common.errors import InputError
from magictailor.common.events import Event, Notice
from magictailor.training import loop
from magictailor.training.memory import expected_peak, peak_memory_gb
from magictailor.training.run_folder import LORA_FILE, RUN_FILE, WORDS_FILE, read_run
from magictailor.training.setup import build
from magictailor.training.train import make_recipe
from magictailor.training.trainables import Trainables
from tiny import FAMILIES, Rig, backward, interrupted_and_resumed, pair, recipe, train

BITS = ("int8", "nf4")


def base(family: str, runtime: Runtime = CPU) -> StableDiffusion:
    kind = StableDiffusionXL if family == "sdxl" else StableDiffusion
    return kind(family, FAMILIES[family](), runtime=runtime)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target: Path = tmp_path_factory.mktemp(request.param) / "base"
    FAMILIES[request.param]().save_pretrained(target)
    return target


# --- bits


@pytest.mark.parametrize("precision", BITS)
def test_the_attention_blocks_weights_have_fewer_bits_and_nearly_the_same_output(precision: str, folder: Path) -> None:
    whole = load_backbone(str(folder), device="cpu")
    backbone = load_backbone(str(folder), device="cpu", precision=precision)
    layers = {n for n, m in whole.denoiser.named_modules() if type(m) is nn.Linear and ".attentions." in n}
    assert len(layers) > 20
    for name, module in backbone.denoiser.named_modules():
        assert (type(module).__module__.startswith("bitsandbytes")) == (name in layers)
    some = next(n for n in sorted(layers) if n.endswith("ff.net.2"))
    weight, bits = whole.denoiser.get_submodule(some).weight, backbone.denoiser.get_submodule(some).weight
    assert bits.nbytes == weight.numel() * (1 if precision == "int8" else 0.5)
    random = torch.Generator().manual_seed(0)
    noisy, times = torch.randn(2, 4, 8, 8, generator=random), torch.tensor([100, 800])
    outputs = [b.predict(noisy, times, b.encode_text(["a photo of hair"] * 2)).output for b in (whole, backbone)]
    error = float((outputs[0] - outputs[1]).std() / outputs[0].std())
    assert 0 < error < (0.02 if precision == "int8" else 0.1)


@pytest.mark.parametrize("precision", BITS)
def test_a_run_on_bits_trains_in_full_resumes_to_the_byte_and_generates(
    precision: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened() -> Backbone:
        return load_backbone(str(folder), device="cpu", precision=precision)

    monkeypatch.setattr("magictailor.training.loop.SAVE_SECONDS", 0.0)
    whole = train(pair(), tmp_path / "whole", model=opened(), recipe=recipe())

    again = interrupted_and_resumed(tmp_path / "run", opened, at=3)
    for name in (LORA_FILE, WORDS_FILE):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    assert read_run(again).precision == precision
    run = load(again, device="cpu")
    assert any(type(m).__module__.startswith("bitsandbytes") for m in run.pipeline.unet.modules())
    (generated,) = run.generate("<person> with <hair>")
    assert generated.image.size == (16, 16)


def test_without_bitsandbytes_one_line_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError, match="pip install 'magictailor"):
        load_backbone(str(folder), device="cpu", precision="nf4")


# --- networks that are kept off the card


OFFLOADING = replace(CPU, preset=Preset("small", offload=True, tiling=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("step", [0, 2])
def test_offloaded_networks_change_no_gradient_and_are_away_during_the_step(
    family: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients, calls = [], list[str]()
    for runtime in (CPU, OFFLOADING):
        training = build(pair((2, 1)), recipe("optimisation.micro_batch=2"), base(family, runtime))
        with torch.no_grad():
            for number, parameter in enumerate(training.trained.lora.values()):
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
        calls.clear()
        backbone: Any = training.backbone
        for target, name in ((backbone, "predict"), (backbone, "encode_text"), (backbone, "encode_images"), (Condition, "backward")):  # fmt: skip
            method = getattr(target, name)

            def noting(
                *inputs: Any, method: Any = method, name: str = name, backbone: Any = backbone, **options: Any
            ) -> Any:
                calls.append(f"{name} {sorted(backbone._loaded)}")
                return method(*inputs, **options)

            monkeypatch.setattr(target, name, noting)
        backward(training, step)
        gradients.append({n: p.grad for n, p in training.trained.named().items()})
        monkeypatch.undo()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-7)
    images = "encode_images ['vae']"
    forwards = ["predict []"] * (2 if step == 0 else 4)
    assert calls == [images, images, "encode_text []", *forwards, "encode_text ['text']", "backward ['text']"]


def test_what_is_offloaded_is_on_the_card_while_it_works_and_goes_back_uncopied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "_moved", lambda home, device: home.clone())  # no card here: another place in memory
    backbone = base("sdxl", OFFLOADING)
    parts = {"vae": [backbone.pipeline.vae], "text": list(backbone.text_encoders.values())}

    def places(name: str) -> list[int]:
        return [t.data_ptr() for m in parts[name] for t in (*m.parameters(), *m.buffers())]

    homes = {name: places(name) for name in parts}

    def away() -> set[str]:
        return {name for name in parts if not set(places(name)) & set(homes[name])}

    with backbone.on_device("text"):
        assert away() == {"text"}
        with backbone.inference_mode():
            assert away() == {"text", "vae"}
            assert backbone.pipeline.vae.use_tiling
        assert away() == {"text"}
        assert not backbone.pipeline.vae.use_tiling
    assert {name: places(name) for name in parts} == homes


def test_images_decoded_in_tiles_are_nearly_the_same() -> None:
    backbone = base("sd1", replace(CPU, preset=Preset("small", tiling=True)))
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = backbone.decode_latents(latents)
    with backbone.inference_mode():
        tiled = backbone.decode_latents(latents)
    assert not torch.equal(tiled, whole)  # tiles of half the side
    assert tiled.shape == whole.shape


# --- presets


@pytest.mark.parametrize(("gigabytes", "name"), [(4, "8gb"), (7.8, "8gb"), (8.5, "8gb"), (11.6, "12gb"), (15.8, "16gb"), (23.6, "24gb"), (47, "24gb"), (84, "fast")])  # fmt: skip
def test_a_card_has_the_largest_preset_that_it_has_room_for(gigabytes: float, name: str) -> None:
    assert preset_for("sdxl", None, int(gigabytes * 1e9)).name == name


def test_a_preset_goes_into_the_recipe_and_what_is_set_goes_over_it() -> None:
    small = base("sdxl", replace(CPU, preset=PRESETS["sdxl"]["8gb"]))
    own = make_recipe(small).optimisation
    assert (own.micro_batch, own.checkpointing) == (2, True)
    over = make_recipe(small, settings=["optimisation.micro_batch=1", "optimisation.checkpointing=false"]).optimisation
    assert (over.micro_batch, over.checkpointing) == (1, False)
    assert make_recipe(base("sdxl")).optimisation.micro_batch is None
    assert preset_for("embedded", "8gb", None) is FAST


def test_a_presets_precision_holds_unless_another_is_named(folder: Path) -> None:
    assert with_preset(CPU, "sdxl", {"preset": "8gb"}).precision == "nf4"
    assert with_preset(CPU, "sdxl", {"preset": "8gb", "precision": "fp32"}).precision == "fp32"
    assert with_preset(CPU, "sd1", {"preset": "8gb"}).precision == "fp32"
    with pytest.raises(InputError, match=f"choose one of {', '.join(NAMES)}"):
        load_backbone(str(folder), preset="9gb")


def test_what_a_step_is_expected_to_take() -> None:
    """Weights, 20 bytes a trained parameter, and the family's counted activations."""
    rig = Rig(recipe(), pair((3, 3)))
    assert expected_peak(rig.backbone, rig.recipe, rig.trained, 6) is None  # nothing was counted in full precision
    half = Runtime(torch.device("cpu"), "bf16")
    backbone = base("sdxl", half)
    plan = recipe("optimisation.micro_batch=2", "optimisation.checkpointing=true")
    starts = backbone.add_words({"<person>": "person"})
    trained = Trainables(backbone, plan, starts)
    weights = sum(p.nbytes for m in (backbone.pipeline.unet, backbone.pipeline.vae, *backbone.text_encoders.values()) for p in m.parameters())  # fmt: skip
    parameters = sum(p.numel() for p in trained.parameters())
    own = sum(p.nbytes for p in trained.lora.values())
    cost = COSTS["sdxl"]
    expected = (weights - own + 20 * parameters) / 1e9 + max(sum(cost.checkpointed), cost.encode)
    assert expected_peak(backbone, plan, trained, 6) == pytest.approx(expected)
    assert expected_peak(backbone, recipe(), trained, 6) == pytest.approx(expected - sum(cost.checkpointed) + cost.kept[0] + 5 * cost.kept[1])  # fmt: skip


def test_a_run_says_the_memory_that_it_took(tmp_path: Path) -> None:
    events = list[Event]()
    done = train(pair(), tmp_path / "run", model=base("sd1"), recipe=recipe(), listen=events.append)
    peak = json.loads((done / RUN_FILE).read_text())["peak_gb"]
    (notice,) = [event.text for event in events if isinstance(event, Notice)]
    prefix, _, rest = notice.partition(": ")
    assert (prefix, float(rest.removesuffix(" GB"))) == ("peak memory", pytest.approx(peak, abs=0.06))
    assert 0.1 < peak <= (peak_memory_gb(torch.device("cpu")) or 0) + 0.01


# --- compiled


def test_compiled_blocks_give_the_same_step_under_checkpointing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "COMPILER", "aot_eager")  # the same graphs; inductor takes minutes
    figures, plan = [], recipe("optimisation.checkpointing=true", "phases.0.steps=1", "phases.1.steps=1")
    for compiled in (False, True):
        training = build(pair(), plan, base("sdxl", replace(CPU, compiled=compiled)))
        blocks = [
            m for n, m in training.backbone.denoiser.named_modules() if type(m).__name__ == "BasicTransformerBlock"
        ]
        assert all((b._compiled_call_impl is not None) == compiled for b in blocks)
        with training.objective.reading_attention():
            figures.append([loop.advance(training) for _ in range(2)])
    for plain, other in zip(*figures):
        assert other == pytest.approx(plain, rel=1e-4)


def test_without_a_compiler_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "COMPILER", "no-such-compiler")
    with pytest.raises(InputError, match="leave it out"):
        train(pair(), tmp_path / "run", model=base("sd1", replace(CPU, compiled=True)), recipe=recipe())
    assert not (tmp_path / "run").exists()
