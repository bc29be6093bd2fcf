"""Names of LoRA layers at the real sizes, on tensors without values; exports and community files."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    ZImageTransformer2DModel,
)

from family_inputs import SHORT, base, every_family
from magictailor.backbones import load_backbone
from magictailor.backbones.community_lora import community_lora
from magictailor.backbones.lora import Layer
from magictailor.common.errors import InputError
from magictailor.common.tensors import read_tensors
from magictailor.exports import export
from magictailor.training.setup import build
from magictailor.training.start import read_start
from magictailor.training.train import make_recipe
from tiny import pair, train

REAL: dict[str, tuple[Any, dict[str, Any], int]] = {  # the class, its published configuration, LoRA layers in the own code
    "sd3": (SD3Transformer2DModel, {"num_layers": 24, "num_attention_heads": 24, "qk_norm": "rms_norm", "caption_projection_dim": 1536, "dual_attention_layers": tuple(range(13))}, 24 * 4 - 1 + 13 * 2),
    "flux": (FluxTransformer2DModel, {}, 19 * 8 + 38),
    "flux2-klein-4b": (Flux2Transformer2DModel, {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680}, 5 * 2 + 20 * 2),
    "z-image": (ZImageTransformer2DModel, {}, 34 * 2),
    "qwen-image": (QwenImageTransformer2DModel, {}, 60 * 4),
}  # fmt: skip


@pytest.mark.parametrize("family", REAL)
def test_every_layer_of_a_lora_has_its_name_in_the_original_code(family: str) -> None:
    kind, config, count = REAL[family]
    with torch.device("meta"):
        transformer = kind(**config)
    backbone = base(family)
    backbone.pipeline.transformer = transformer
    ends = tuple(f".{target}" for target in backbone.lora_targets)
    modules = [n for n, m in transformer.named_modules() if isinstance(m, torch.nn.Linear) and f".{n}".endswith(ends)]
    with torch.device("meta"):
        adapter = {
            n: Layer(torch.empty(4, m.in_features), torch.empty(m.out_features, 4), 4.0)
            for n, m in transformer.named_modules()
            if n in modules
        }
        native = backbone.lora_keys.comfyui(adapter)
    layers = {key.removesuffix(".lora_B.weight"): v for key, v in native.items() if key.endswith(".lora_B.weight")}
    assert len(layers) == count
    for name, up in layers.items():  # as many outputs as the fused layer has
        parts = native_layer_of(backbone, name)
        assert up.shape[0] == sum(transformer.get_submodule(part).out_features for part in parts)


def native_layer_of(backbone: Any, name: str) -> tuple[str, ...]:
    pattern = {
        k.replace("{}", number): v for k, v in backbone.native.items() for number in re.findall(r"\d+", name)[:1]
    }
    number = re.findall(r"\d+", name)[0]
    return tuple(part.format(number) for part in pattern[name.removeprefix("diffusion_model.")])


@pytest.mark.parametrize("format", ["kohya", "comfyui", "merged"])
@every_family
def test_an_export_is_read_back_as_what_was_trained(
    family: str, format: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    run = train(pair(), tmp_path / "run", model=str(folders(family)), settings=SHORT, device="cpu")
    trained = read_tensors(run / "pytorch_lora_weights.safetensors")
    if family == "sana" and format != "merged":
        with pytest.raises(InputError, match="choose diffusers"):
            export(run, tmp_path / "out", format)
        return
    export(run, tmp_path / "out", format)
    if format == "merged":
        plain: Any = DiffusionPipeline.from_pretrained(str(tmp_path / "out"))
        layer = sorted(k for k in trained if ".lora_A." in k)[0]
        name = layer.removeprefix("transformer.").removesuffix(".lora_A.weight")
        start = DiffusionPipeline.from_pretrained(str(folders(family))).transformer.get_submodule(name).weight
        change = trained[layer.replace("lora_A", "lora_B")] @ trained[layer]
        torch.testing.assert_close(plain.transformer.get_submodule(name).weight - start, change, rtol=1e-3, atol=1e-5)
        return
    (file,) = (tmp_path / "out").glob("*.safetensors")
    modules = [k.removeprefix("transformer.").removesuffix(".lora_A.weight") for k in trained if ".lora_A." in k]
    adapter = base(family).lora_keys.read(read_tensors(file), modules)
    assert set(adapter) == set(modules)
    for name, layer_read in adapter.items():
        change = trained[f"transformer.{name}.lora_B.weight"] @ trained[f"transformer.{name}.lora_A.weight"]
        torch.testing.assert_close(layer_read.folded().up @ layer_read.down, change, rtol=1e-4, atol=1e-6)
    prompt = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "a photo of sks person with ktn hair" in prompt
    if format == "comfyui" and family.startswith(("flux2", "qwen")):  # diffusers' loader knows ComfyUI's names of these
        loaded: Any = DiffusionPipeline.from_pretrained(str(folders(family)))
        loaded.load_lora_weights(read_tensors(file))
        assert loaded.get_list_adapters()


@every_family
def test_a_run_starts_from_another_runs_lora_and_from_its_exports(
    family: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    first = train(pair(), tmp_path / "first", model=str(folders(family)), settings=SHORT, device="cpu")
    trained = read_tensors(first / "pytorch_lora_weights.safetensors")
    formats = ["diffusers"] if family == "sana" else ["diffusers", "comfyui", "kohya"]
    for source in (first, *(export(first, tmp_path / format, format) for format in formats)):
        backbone: Any = load_backbone(str(folders(family)), device="cpu")
        training = build(pair(), make_recipe(backbone, settings=SHORT), backbone, read_start(source))
        own = training.trained.lora
        for key, down in trained.items():
            if ".lora_A." in key:
                name = key.removeprefix("transformer.")
                a = own[name.replace(".lora_A.", ".lora_A.default.")]
                b = own[name.replace(".lora_A.", ".lora_B.default.")]
                change = trained[key.replace("lora_A", "lora_B")] @ down
                torch.testing.assert_close(b @ a, change, rtol=1e-4, atol=1e-6)


@every_family
def test_a_community_lora_is_merged_at_its_strength(
    family: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    first = train(pair(), tmp_path / "first", model=str(folders(family)), settings=SHORT, device="cpu")
    file = first / "pytorch_lora_weights.safetensors"
    trained = read_tensors(file)
    plain: Any = load_backbone(str(folders(family)), device="cpu")
    merged: Any = load_backbone(str(folders(family)), [community_lora(f"{file}=0.5")], device="cpu")
    assert merged.digest_as_loaded == plain.digest_as_loaded
    for key, down in trained.items():
        if ".lora_A." in key:
            name = key.removeprefix("transformer.").replace(".lora_A.weight", ".weight")
            before, after = (dict(b.denoiser.named_parameters())[name] for b in (plain, merged))
            change = 0.5 * trained[key.replace("lora_A", "lora_B")] @ down
            torch.testing.assert_close(after - before, change, rtol=1e-3, atol=1e-6)
    other = next(f for f in ("z-image", "sana") if f != family)
    with pytest.raises(InputError, match="not a LoRA for this model"):
        load_backbone(str(folders(other)), [community_lora(str(file))], device="cpu")
