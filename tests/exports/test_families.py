"""Each family from a folder to files that plain diffusers generates with: trained, exported, read back by other code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from magictailor import load, personalize
from magictailor.backbones import load_backbone
from magictailor.backbones.community_lora import community_lora
from magictailor.common.tensors import write_tensors
from magictailor.exports import export, inspect
from magictailor.exports.single_file import single_file
from magictailor.training.run_folder import LORA_FILE, WORDS_FILE
from magictailor.training.setup import build
from magictailor.training.start import read_start
from tiny import FAMILIES, PROMPT, drawn, opened, pair, recipe

STRONG = ("phases.0.lr=0.05", "phases.1.lr=0.05", "train.0.alpha=16")


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp(request.param) / "base"
    FAMILIES[request.param]().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(base: Path) -> Path:
    return personalize(pair(), base.parent / "ada", model=str(base), recipe=recipe(*STRONG)).folder


@pytest.fixture(scope="module")
def ours(run: Path) -> np.ndarray:
    (item,) = load(run).generate(PROMPT, seed=9)
    return np.asarray(item.image, int)


def by_readme(made: Path, monkeypatch: pytest.MonkeyPatch, lora: Path | None = None, imported: Any = None) -> Any:
    """The pipeline that the README's own code makes; ``lora``: from this file instead; ``imported``: one with the LoRA
    in it, to which the code adds the words."""
    code = (made / "README.md").read_text().split("```python\n")[1].split("```")[0]
    compile(code, "README.md", "exec")  # its last line too
    if lora is not None:
        code = code.replace(f'".", weight_name="{LORA_FILE}"', f'"{lora.parent}", weight_name="{lora.name}"')
    lines = code.partition("image = ")[0].splitlines()
    if imported is not None:
        lines = [line for line in lines if not line.startswith(("pipe = ", "pipe.load_lora_weights"))]
    monkeypatch.chdir(made)
    names: dict[str, Any] = {"pipe": imported}
    exec("\n".join(lines), names)
    return names["pipe"]


def test_the_readmes_code_generates_the_same(
    run: Path, ours: np.ndarray, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain diffusers, with its own file and with kohya's."""
    kohya = export(run, tmp_path / "kohya", "kohya") / "ada.safetensors"
    made = export(run, tmp_path / "out", "diffusers")
    for lora in (None, kohya):
        assert np.abs(drawn(by_readme(made, monkeypatch, lora)) - ours).max() <= 1
    assert np.abs(drawn(opened(base)) - ours).max() > 20


def test_comfyuis_file_generates_the_same_on_a_checkpoint(
    run: Path, ours: np.ndarray, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """diffusers does not read ComfyUI's own names, so the test does as ComfyUI does: alpha / rank times up times down is
    added to the checkpoint's tensor of that name, and diffusers opens the checkpoint."""
    lora = load_file(export(run, tmp_path / "comfyui", "comfyui") / "ada.safetensors")
    plain = opened(base)
    whole = single_file(plain.components, len(plain.tokenizer))
    names = [k.removesuffix(".lora_A.weight") for k in lora if k.endswith(".lora_A.weight")]
    assert len(lora) == 3 * len(names)
    for name in names:
        down, up = lora[f"{name}.lora_A.weight"], lora[f"{name}.lora_B.weight"]
        gain = up.flatten(1) @ down.flatten(1) * lora[f"{name}.alpha"] / len(down)
        weight = whole[f"model.{name}.weight"]
        whole[f"model.{name}.weight"] = weight + gain.reshape(weight.shape)
    write_tensors(tmp_path / "whole.safetensors", whole)
    again = type(plain).from_single_file(
        str(tmp_path / "whole.safetensors"), config=str(base), local_files_only=True, safety_checker=None
    )
    words = export(run, tmp_path / "words", "diffusers")
    assert np.abs(drawn(by_readme(words, monkeypatch, imported=again)) - ours).max() <= 2


def test_merged_and_in_one_file_nothing_is_lost(run: Path, ours: np.ndarray, base: Path, tmp_path: Path) -> None:
    merged = opened(export(run, tmp_path / "merged", "merged"))
    assert np.abs(drawn(merged) - ours).max() <= 2
    file = export(run, tmp_path / "one", "checkpoint") / "ada.safetensors"
    again = type(merged).from_single_file(str(file), config=str(base), local_files_only=True)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if hasattr(merged, name):
            wanted, got = getattr(merged, name).state_dict(), getattr(again, name).state_dict()
            assert set(wanted) == set(got)
            for key, tensor in wanted.items():  # the embeddings' new rows are files of their own
                rows = len(got[key]) if got[key].ndim else None
                torch.testing.assert_close(got[key], tensor[:rows] if rows else tensor, rtol=0, atol=0)


@pytest.mark.parametrize("format", ["diffusers", "kohya", "comfyui"])
def test_an_imported_export_generates_the_same(
    format: str, run: Path, ours: np.ndarray, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our run, the file, our import: one image."""
    made = export(run, tmp_path / format, format)
    file = made / (LORA_FILE if format == "diffusers" else "ada.safetensors")
    imported = load_backbone(str(base), [community_lora(str(file))]).pipeline
    words = export(run, tmp_path / "words", "diffusers")
    assert np.abs(drawn(by_readme(words, monkeypatch, imported=imported)) - ours).max() <= 1


@pytest.mark.parametrize("format", ["diffusers", "kohya", "comfyui"])
def test_every_spelling_comes_back_as_strong(format: str, run: Path, base: Path, tmp_path: Path) -> None:
    """Through `--lora` the weights are the merged ones; through `--start` a new run begins with LoRA and words."""
    made = export(run, tmp_path / "out", format)
    file = made / (LORA_FILE if format == "diffusers" else "ada.safetensors")
    whole = load(run).pipeline
    whole.fuse_lora()
    theirs = dict(load_backbone(str(base), [community_lora(str(file))]).pipeline.unet.named_parameters())
    for name, parameter in whole.unet.named_parameters():
        if "lora" not in name:
            torch.testing.assert_close(theirs[name.replace("base_layer.", "")], parameter, rtol=1e-4, atol=1e-5)
    begun = build(pair(), recipe(*STRONG), load_backbone(str(base)), read_start(made))
    words = load_file(run / WORDS_FILE)
    assert begun.trained.words
    for name, row in begun.trained.words.items():
        torch.testing.assert_close(row.detach(), words[f"words.{name}"])
    assert inspect(file).layers["U-Net"] == len([n for n in begun.trained.lora if ".lora_A." in n])


def test_convolutions_are_trained_where_a_family_has_them(run: Path, base: Path) -> None:
    shapes = {len(t.shape) for t in load_file(run / LORA_FILE).values()}
    linear = json.loads((base / "unet" / "config.json").read_text())["use_linear_projection"]
    assert shapes == ({2} if linear else {2, 4})


def test_words_have_a_tensor_for_each_encoder(run: Path, base: Path, tmp_path: Path) -> None:
    two = (base / "text_encoder_2").exists()
    assert len(load_file(run / WORDS_FILE)) == (4 if two else 2)
    for format in ("kohya", "comfyui"):
        made = export(run, tmp_path / format, format)
        keys = {"clip_l", "clip_g"} if two else {"emb_params" if format == "kohya" else "clip_l"}
        assert set(load_file(made / "ada-person.safetensors")) == keys
    bundle = load_file(export(run, tmp_path / "bundle", "kohya", bundle=True) / "ada.safetensors")
    keys = {"clip_l", "clip_g"} if two else {"clip_l"}
    assert {k for k in bundle if k.startswith("bundle")} == {
        f"bundle_emb.ada-{w}.{k}" for w in ("person", "hair") for k in keys
    }
