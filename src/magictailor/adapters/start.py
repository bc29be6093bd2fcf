"""Where training may start instead of from nothing: a run's LoRA and pseudo-words, or an exported folder's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from magictailor.adapters.trainables import WORDS, Trainables
from magictailor.backbones.contract import Backbone
from magictailor.backbones.spellings import comfyui_name, kohya_name
from magictailor.errors import InputError
from magictailor.tensors import WORD, read_numbers, read_tensors

ALPHA = "unet.lora_alpha"


@dataclass(frozen=True)
class Start:
    """The tensors of a folder's safetensors files, and which folder it was."""

    folder: str
    sha256: str
    tensors: Mapping[str, Tensor]
    alpha: float | None  # of a LoRA whose file has none beside each layer


def read_start(folder: Path | str) -> Start:
    """All that lies in the folder of a run or an export, a checkpoint aside.

    Raises:
        InputError: no such folder, or nothing trained in it.
    """
    place = Path(folder).expanduser().resolve()
    files = sorted(p for p in place.glob("*.safetensors") if p.name != "checkpoint.safetensors")
    if not files:
        raise InputError(f"--start {folder}: no LoRA or pseudo-word in it; name a finished run or an exported folder")
    tensors: dict[str, Tensor] = {}
    alpha, digest = None, sha256()
    for file in files:
        digest.update(file.read_bytes())
        alone, header = read_tensors(file), read_numbers(file)
        if any(key.startswith("model.diffusion_model.") for key in alone):
            raise InputError(f"--start {folder}: {file.name} is a whole model; export the run as diffusers or kohya")
        # A word's file has one tensor under a name that says nothing: the header says the word.
        tensors |= {header[WORD]: next(iter(alone.values()))} if WORD in header else alone
        alpha = _alpha(header) or alpha
    return Start(str(place), digest.hexdigest(), tensors, alpha)


def _alpha(header: Mapping[str, str]) -> float | None:
    try:
        alpha = json.loads(header.get("lora_adapter_metadata", "{}")).get(ALPHA)
    except (ValueError, AttributeError):
        return None
    return None if alpha is None else float(alpha)


def _spellings(module: str, layers: int) -> dict[str, tuple[str, str]]:
    """A layer's name in each spelling, with the endings of its two factors."""
    factors, kohyas = (".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight")
    return {
        f"unet.{module}": factors,
        comfyui_name(module, layers): factors,
        kohya_name(module, layers, sgm=False): kohyas,
        kohya_name(module, layers, sgm=True): kohyas,
    }


def _layer(start: Start, module: str, layers: int) -> tuple[Tensor, Tensor, float]:
    """A layer's factors and how much the file scales their product."""
    for name, (down, up) in _spellings(module, layers).items():
        if name + down in start.tensors:
            a, b = start.tensors[name + down].float(), start.tensors[name + up].float()
            alpha = start.tensors.get(f"{name}.alpha", start.alpha)
            return a, b, 1.0 if alpha is None else float(alpha) / len(a)
    raise InputError(f"--start {start.folder}: its LoRA lacks {module}; it is of another base")


def _word(start: Start, word: str, encoder: str) -> Tensor:
    """A pseudo-word's vectors: a run's, or an export's by the word itself."""
    for key in (f"{WORDS}.{word}.{encoder}", word):
        if key in start.tensors:
            return start.tensors[key].float().reshape(1, -1)
    raise InputError(
        f"--start {start.folder}: no pseudo-word {word} in it; give the pair its words (pair.toml: word = ...)"
    )


@torch.no_grad()
def begin_from(start: Start, trained: Trainables, backbone: Backbone, scale: float) -> None:
    """Copy LoRA and words into the trainables. ``scale``: alpha / rank of the run that begins.

    Raises:
        InputError: another base, another rank, or a pseudo-word that is not there.
    """
    pipeline: Any = backbone.pipeline
    layers = pipeline.unet.config.layers_per_block
    if trained.matrices or not trained.lora or not trained.words:
        raise InputError("--start: only a recipe that trains a LoRA and pseudo-words can begin from another run")
    for name, down in trained.lora.items():
        if ".lora_A." not in name:
            continue
        module, up = name.split(".lora_A.")[0], trained.lora[name.replace(".lora_A.", ".lora_B.")]
        a, b, strength = _layer(start, module, layers)
        if len(a) != len(down):
            raise InputError(f"--start {start.folder}: its rank is {len(a)}; add --set train.0.rank={len(a)}")
        if a.shape != down.shape or b.shape != up.shape:
            raise InputError(f"--start {start.folder}: {module} has other sizes; it is of another base")
        down.copy_(a)
        up.copy_(b * strength / scale)
    for name, row in trained.words.items():
        word, _, encoder = name.rpartition(".")
        vectors = _word(start, word, encoder)
        if vectors.shape != row.shape:
            raise InputError(
                f"--start {start.folder}: {word} has {vectors.shape[-1]} numbers, the base {row.shape[-1]}"
            )
        row.copy_(vectors)
