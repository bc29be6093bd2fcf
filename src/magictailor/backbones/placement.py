"""Where a model runs, and how precise its frozen weights are. What is trained stays float32 everywhere."""

from dataclasses import dataclass

import torch

from magictailor.errors import InputError
from magictailor.processes import device_named, local_rank

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Placement:
    """``precision``: fp32, bf16 or fp16, of the weights and of the activations between them."""

    device: torch.device
    precision: str

    @property
    def dtype(self) -> torch.dtype:
        return PRECISIONS[self.precision]


ON_CPU = Placement(torch.device("cpu"), "fp32")


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda" if (number := local_rank()) is None else f"cuda:{number}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _best_precision(device: torch.device) -> str:
    """Half precision on CUDA cards, with bf16's range where the card has it."""
    if device.type != "cuda":
        return "fp32"
    with torch.cuda.device(device):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def placement(device: str | None = None, precision: str | None = None) -> Placement:
    """What is asked for, or the best that this machine has.

    Raises:
        InputError: a device that is not there, or an unknown precision.
    """
    there = device_named(device or _best_device())
    precision = precision or _best_precision(there)
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision}: choose one of {', '.join(PRECISIONS)}")
    return Placement(there, precision)
