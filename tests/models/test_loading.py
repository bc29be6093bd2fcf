"""Checkpoints of today's families: recognised, read from a folder or a file, or refused in one line."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from families import NATIVE, SIZE, native_state, pipeline
from family_inputs import base, every_family
from magictailor.backbones import load_backbone
from magictailor.backbones.families import family_on_disk
from magictailor.backbones.transformer import Transformer
from magictailor.common.errors import InputError
from magictailor.common.tensors import write_tensors
from magictailor.weights import EMBEDDED


@every_family
def test_a_family_is_known_by_its_files(family: str, folders: Callable[[str], Path]) -> None:
    folder = folders(family)
    assert family_on_disk(str(folder)) == load_backbone(str(folder)).family


def test_bases_in_one_file_or_none_are_known_or_not() -> None:
    assert family_on_disk("embedded") == family_on_disk(str(EMBEDDED)) == "embedded"
    assert family_on_disk("nobody/has-this") is None
    assert family_on_disk(__file__) is None


@every_family
def test_a_folder_is_recognised_by_its_checkpoint(family: str, folders: Callable[[str], Path]) -> None:
    loaded = load_backbone(str(folders(family)), device="cpu")
    assert loaded.family == family
    assert isinstance(loaded, Transformer)
    assert loaded.digest_as_loaded == load_backbone(str(folders(family)), device="cpu").digest()
    assert not any(p.requires_grad for network in loaded.networks.values() for p in network.parameters())


@pytest.mark.parametrize("family", NATIVE)
def test_a_transformer_in_one_file_is_the_same_with_the_rest_of_its_model(
    family: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, file = folders(family), tmp_path / "own.safetensors"
    other = pipeline(family).transformer
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    write_tensors(file, native_state(family, other))
    loaded: Any = load_backbone(f"{file}@{folder}", device="cpu")
    assert loaded.family == family
    state = loaded.denoiser.state_dict()
    assert state.keys() == other.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in other.state_dict().items())
    assert loaded.name == f"{file}@{folder}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing"),
        ({"double_blocks.0.img_attn.qkv.weight": torch.zeros(4, 4).to(torch.float8_e4m3fn)}, "F8_E4M3, which cannot be trained"),
        ({"double_blocks.0.img_attn.qkv.weight": torch.zeros(4, 4), "double_blocks.0.img_attn.qkv.scale_weight": torch.zeros(1)}, "quantised"),
        ({"unknown.weight": torch.zeros(4, 4)}, "not a transformer of"),
    ],
)  # fmt: skip
def test_a_transformer_that_cannot_be_trained_is_refused_in_one_line(
    content: Any, message: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    file = tmp_path / "own.safetensors"
    if content is not None:
        write_tensors(file, content)
    with pytest.raises(InputError, match=message):
        load_backbone(f"{file}@{folders('flux2-klein-4b')}", device="cpu")


def test_a_model_without_its_text_encoder_is_refused_by_name(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(folders("z-image"), folder)
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(InputError, match="has no text_encoder"):
        load_backbone(str(folder), device="cpu")


@every_family
def test_a_size_that_a_model_does_not_take_is_refused_with_one_that_it_takes(family: str) -> None:
    backbone = base(family)
    with pytest.raises(InputError, match="takes multiples of") as refused:
        backbone.use_size(SIZE + 1)
    assert str(SIZE) in refused.value.fix
