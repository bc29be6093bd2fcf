"""Where training may start instead of from the base alone: a run's LoRA and pseudo-words, or an exported folder's."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from magictailor.backbones.contract import Backbone
from magictailor.backbones.lora import header_alpha
from magictailor.common.errors import InputError
from magictailor.common.headers import WORD
from magictailor.common.tensors import read_metadata, read_tensors
from magictailor.training.run_folder import START_FIX, trained_files
from magictailor.training.trainables import WORDS, Trainables


def _refused(problem: str, fix: str) -> InputError:
    return InputError(problem, fix, field="start")


@dataclass(frozen=True)
class Start:
    """The tensors of a folder's safetensors files, and their digest."""

    folder: str
    sha256: str
    tensors: Mapping[str, Tensor]
    alpha: float | None  # of a LoRA whose file has none next to each layer


def read_start(folder: Path | str) -> Start:
    """All weights in the folder of a run or an export, without a checkpoint.

    Raises:
        InputError: no such folder, or nothing trained in it.
    """
    files = trained_files(folder)
    tensors: dict[str, Tensor] = {}
    alpha, digest = None, sha256()
    for file in files:
        alone, header = read_tensors(file, fix=START_FIX, field="start"), read_metadata(file)
        digest.update(file.read_bytes())
        if any(key.startswith("model.diffusion_model.") for key in alone):
            raise _refused(f"{folder}: {file.name} is a whole model", "export the run as diffusers or kohya")
        # A word's file has a tensor an encoder, a lone one under any name: the header says the word.
        if WORD in header:
            alone = {f"{header[WORD]}.{k}" if len(alone) > 1 else header[WORD]: v for k, v in alone.items()}
        tensors |= alone
        alpha = header_alpha(header) or alpha
    return Start(str(files[0].parent), digest.hexdigest(), tensors, alpha)


def _word(start: Start, word: str, encoder: str) -> Tensor:
    """A pseudo-word's vectors: a run's, or an export's by the word itself."""
    for key in (f"{WORDS}.{word}.{encoder}", f"{word}.{encoder}", word):
        if key in start.tensors:
            return start.tensors[key].float().reshape(1, -1)
    raise _refused(f"{start.folder}: no pseudo-word {word} in it", "give the pair its words (pair.toml: word = ...)")


@torch.no_grad()
def start_from(start: Start, trained: Trainables, backbone: Backbone, scale: float) -> None:
    """Copy LoRA and words into the trainables. ``scale``: alpha / rank of the new run.

    Raises:
        InputError: another base, another rank, or a pseudo-word that is not there.
    """
    other_base = "it belongs to another base; choose that one"
    if not trained.lora or trained.matrices or ("pseudo-words" in backbone.trainable and not trained.words):
        raise _refused("only a recipe that trains a LoRA and pseudo-words can start from another run", "leave it out")
    downs = {name.split(".lora_A.")[0]: name for name in trained.lora if ".lora_A." in name}
    adapter = backbone.lora_keys.read(start.tensors, downs, start.alpha)
    for module, name in downs.items():
        if module not in adapter:
            raise _refused(f"{start.folder}: its LoRA has no {module}", other_base)
        layer = adapter[module].folded()
        down, up = trained.lora[name], trained.lora[name.replace(".lora_A.", ".lora_B.")]
        if layer.rank != len(down):
            raise _refused(f"{start.folder}: its rank is {layer.rank}", f"set train.0.rank={layer.rank}")
        if layer.down.shape != down.shape or layer.up.shape != up.shape:
            raise _refused(f"{start.folder}: {module} has other sizes", other_base)
        down.copy_(layer.down)
        up.copy_(layer.up / scale)
    for name, row in trained.words.items():
        word, _, encoder = name.rpartition(".")
        vectors = _word(start, word, encoder)
        if vectors.shape != row.shape:
            raise _refused(
                f"{start.folder}: {word} has {vectors.shape[-1]} numbers, the base {row.shape[-1]}", other_base
            )
        row.copy_(vectors)
