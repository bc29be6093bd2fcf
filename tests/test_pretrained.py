"""Folders of pretrained models: what is refused before a library opens them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, SamModel

from magictailor.backbones import load_backbone
from magictailor.common.errors import InputError
from magictailor.common.pretrained import check_part, load_pretrained
from magictailor.weights import EMBEDDED


@pytest.fixture
def part(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    CLIPTextModel(config).save_pretrained(tmp_path / "part")
    check_part(tmp_path / "part")
    return tmp_path / "part"


def test_what_is_whole_is_loaded(part: Path) -> None:
    assert isinstance(load_pretrained(CLIPTextModel, str(part), "fix", local=True), CLIPTextModel)


@pytest.mark.parametrize("end", [0, 7, 40, -1])
def test_a_file_that_was_cut_is_named(part: Path, end: int) -> None:
    file = part / "model.safetensors"
    file.write_bytes(file.read_bytes()[:end])
    with pytest.raises(InputError, match=r"model\.safetensors: damaged.*download it again"):
        check_part(part)


def test_pickles_are_refused_and_nothing_of_them_is_run(part: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (tmp_path / "run",))

    (part / "model.safetensors").unlink()
    torch.save({"a": Trap()}, part / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pickles, which can run code.*safetensors"):
        load_pretrained(CLIPTextModel, str(part), "fix", local=True)
    assert not (tmp_path / "run").exists()


def test_missing_weights_and_shards(part: Path) -> None:
    (part / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-2.safetensors"}}))
    with pytest.raises(InputError, match=r"model-2\.safetensors is missing"):
        check_part(part)
    (part / "model.safetensors.index.json").unlink()
    (part / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights"):
        check_part(part)


def test_another_models_folder_is_refused(part: Path) -> None:
    with pytest.raises(InputError, match="has no tokenizer; fix"):
        load_pretrained(CLIPTokenizer, str(part), "fix", local=True)
    with pytest.raises(InputError, match="holds no SamModel; fix"):
        load_pretrained(SamModel, str(part), "fix", local=True)


@pytest.mark.parametrize(
    "file", ["unet/config.json", "text_encoder/model.safetensors", "scheduler/scheduler_config.json"]
)
def test_a_pipelines_damaged_file_is_named(file: str, tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED, tmp_path / "base")
    whole = (tmp_path / "base" / file).read_bytes()
    (tmp_path / "base" / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=file) as caught:
        load_backbone(str(tmp_path / "base"))
    assert caught.value.field == "model"
