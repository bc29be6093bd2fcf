"""Where a model runs, and how precise its frozen weights are. What is trained stays float32 everywhere."""

from dataclasses import dataclass, replace
from typing import TypedDict

import torch

from magictailor.backbones.presets import FAST, NAMES, Preset, preset_for
from magictailor.common.errors import InputError
from magictailor.common.processes import device_named, local_rank

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BITS = {"int8": 8, "nf4": 4}


class Where(TypedDict, total=False):
    """What a caller may say about where a model runs; whatever is None or missing is chosen.

    device: cpu, cuda or mps; the best that there is.
    precision: fp32, bf16 or fp16 for all; int8 or nf4 for the denoiser's attention blocks, half for the rest. Half on
        CUDA, full elsewhere.
    preset: 8gb, 12gb, 16gb, 24gb or fast; the card's.
    compiled: whether the denoiser's blocks are compiled by torch.compile, which takes minutes at the start.
    """

    device: str | None
    precision: str | None
    preset: str | None
    compiled: bool


@dataclass(frozen=True)
class Placement:
    """``precision``: of the frozen weights; ``dtype``: of the activations between them."""

    device: torch.device
    precision: str
    preset: Preset = FAST
    compiled: bool = False

    @property
    def dtype(self) -> torch.dtype:
        return PRECISIONS[_best_precision(self.device) if self.bits else self.precision]

    @property
    def bits(self) -> int | None:
        return BITS.get(self.precision)


ON_CPU = Placement(torch.device("cpu"), "fp32")


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _best_precision(device: torch.device) -> str:
    """Half precision on CUDA cards, with bf16's range where the card has it."""
    if device.type != "cuda":
        return "fp32"
    with torch.cuda.device(device):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def placement(
    device: str | None = None, precision: str | None = None, preset: str | None = None, compiled: bool = False
) -> Placement:
    """What is asked for, or the best that this machine has; the preset waits for the family, see `fitted`.

    Raises:
        InputError: a device that is not there, or an unknown precision or preset.
    """
    name = device or _best_device()
    rank = local_rank()
    there = device_named(f"cuda:{rank}" if name == "cuda" and rank is not None else name)
    precision = precision or _best_precision(there)
    if precision not in (*PRECISIONS, *BITS):
        raise InputError(f"--precision {precision}: choose one of {', '.join((*PRECISIONS, *BITS))}")
    if preset is not None and preset not in NAMES:
        raise InputError(f"--preset {preset}: choose one of {', '.join(NAMES)}")
    return Placement(there, precision, compiled=compiled)


def fitted(place: Placement, family: str, where: Where) -> Placement:
    """With the preset for this family on this card, and its precision where the caller named none.

    Raises:
        InputError: bits on a device that has none.
    """
    card = torch.cuda.get_device_properties(place.device).total_memory if place.device.type == "cuda" else None
    preset = preset_for(family, where.get("preset"), card)
    precision = where.get("precision") or preset.precision or place.precision
    if precision in BITS and place.device.type not in ("cpu", "cuda"):
        raise InputError(f"--precision {precision}: not on {place.device.type}; choose fp32, bf16 or fp16")
    return replace(place, preset=preset, precision=precision)
