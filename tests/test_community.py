"""Community LoRAs: merged at their strength under what is trained, remembered by the run, refused when they do not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from magictailor import InputError, load, personalize
from magictailor.backbones import load_backbone
from magictailor.backbones.community_lora import community_lora
from magictailor.training.run_folder import LORA_FILE
from tiny import opened, pair, recipe

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
FILE = "style.safetensors"


@pytest.fixture
def style(tmp_path: Path) -> Path:
    """A kohya file of one layer, rank 2, alpha 1."""
    random = torch.Generator().manual_seed(0)
    name = "lora_unet_" + LAYER.replace(".", "_")
    save_file(
        {
            f"{name}.lora_down.weight": torch.randn(2, 16, generator=random),
            f"{name}.lora_up.weight": torch.randn(16, 2, generator=random),
            f"{name}.alpha": torch.tensor(1.0),
        },
        tmp_path / FILE,
    )
    return tmp_path / FILE


def weight(pipeline: Any) -> torch.Tensor:
    layer: Any = pipeline.unet.get_submodule(LAYER)
    return getattr(layer, "base_layer", layer).weight.detach()


def change(style: Path) -> torch.Tensor:
    tensors = load_file(style)
    name = "lora_unet_" + LAYER.replace(".", "_")
    return tensors[f"{name}.lora_up.weight"] @ tensors[f"{name}.lora_down.weight"] / 2  # alpha / rank


@pytest.mark.parametrize("strength", [1.0, 0.5, -1.0])
def test_a_lora_is_merged_at_its_strength(strength: float, style: Path, tiny_folder: Path) -> None:
    bare = weight(opened(tiny_folder))
    backbone = load_backbone(str(tiny_folder), [community_lora(f"{style}={strength}")])
    merged = weight(backbone.pipeline)
    assert backbone.digest_as_loaded == load_backbone(str(tiny_folder)).digest_as_loaded  # it is still the same base
    torch.testing.assert_close(merged - bare, strength * change(style), rtol=1e-4, atol=1e-6)


def test_a_run_remembers_what_it_was_trained_on_and_may_generate_with_more(
    style: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    few, base = recipe("phases.0.steps=1"), str(tiny_folder)
    run = personalize(pair(), tmp_path / "run", model=base, recipe=few, loras=[f"{style}=0.5"])
    (kept,) = run.info.loras
    assert (kept.file, kept.strength) == (str(style), 0.5)
    assert not [k for k in load_file(run.folder / LORA_FILE) if k.endswith("alpha")]
    bare, more = weight(opened(tiny_folder)), load(run.folder, [str(style)])
    torch.testing.assert_close(weight(run.pipeline) - bare, 0.5 * change(style), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weight(more.pipeline) - bare, 1.5 * change(style), rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match=r"another run \(loras differs\)"):
        personalize(pair(), run.folder, model=base, recipe=few)
    style.write_bytes(style.read_bytes() + b" ")
    with pytest.raises(InputError, match="not the file that the run was trained with"):
        load(run.folder)


@pytest.mark.parametrize("format", ["diffusers", "kohya", "comfyui"])
def test_what_we_export_comes_back_as_strong_as_it_was_trained(format: str, tiny_folder: Path, tmp_path: Path) -> None:
    """Alpha 16 at rank 4; against the run's own pipeline, whose LoRA diffusers merges."""
    strong = recipe("phases.0.lr=0.05", "phases.1.lr=0.05", "train.0.alpha=16")
    run = personalize(pair(), tmp_path / "run", model=str(tiny_folder), recipe=strong)
    whole: Any = load(run.folder).pipeline
    whole.fuse_lora()
    made = run.export(tmp_path / "out", format)
    file = made / (LORA_FILE if format == "diffusers" else "run.safetensors")
    again = load_backbone(str(tiny_folder), [community_lora(str(file))]).pipeline
    bare = weight(opened(tiny_folder))
    assert (weight(whole) - bare).abs().max() > 1e-2
    theirs = dict(again.unet.named_parameters())
    for name, parameter in whole.unet.named_parameters():
        if "lora" not in name:
            torch.testing.assert_close(theirs[name.replace("base_layer.", "")], parameter, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused(style: Path, tiny_folder: Path, tmp_path: Path) -> None:
    other = {k: torch.zeros(2, 320) if "down" in k else v for k, v in load_file(style).items()}
    save_file(other, tmp_path / "larger.safetensors")
    save_file({"clip_l": torch.zeros(1, 16)}, tmp_path / "word.safetensors")
    (tmp_path / "picture.safetensors").write_bytes(b"GIF89a")
    save_file({**load_file(style), "lora_unet_x.dora_scale": torch.ones(1)}, tmp_path / "dora.safetensors")
    for name in ("larger", "word", "picture", "dora"):
        with pytest.raises(InputError, match=r"not a LoRA for this model|not safetensors"):
            load_backbone(str(tiny_folder), [community_lora(str(tmp_path / f"{name}.safetensors"))])
    for text, message in (
        (f"{tmp_path / 'none.safetensors'}", "missing"),
        (f"{style}=11", "strengths go from -10 to 10"),
        (f"{style}=nan", "strengths go from -10 to 10"),
        (f"{style}=much", "missing"),
    ):
        with pytest.raises(InputError, match=message):
            community_lora(text)
