"""Where a model runs, and how precise its frozen weights are. What is trained stays in float32 everywhere."""

from dataclasses import dataclass, replace
from typing import TypedDict

import torch

from magictailor.backbones.presets import FAST, NAMES, Preset, preset_for
from magictailor.common.distributed import device_named
from magictailor.common.errors import InputError, check_choice
from magictailor.common.launcher import local_rank

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BITS = {"int8": 8, "nf4": 4}


class RuntimeOptions(TypedDict, total=False):
    """Keyword arguments of every function that loads a model; None, or leaving one out, lets the machine decide.

    device: cpu, cuda or mps; by default the best there is.
    precision: fp32, bf16 or fp16 for all weights; int8 or nf4 for the denoiser's attention blocks and half precision
        for the rest. By default half precision on CUDA and fp32 elsewhere.
    preset: 8gb, 12gb, 16gb, 24gb or fast; by default the one for the GPU's memory.
    compiled: compile the denoiser's blocks with torch.compile, which takes minutes at the start.
    """

    device: str | None
    precision: str | None
    preset: str | None
    compiled: bool


@dataclass(frozen=True)
class Runtime:
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


CPU = Runtime(torch.device("cpu"), "fp32")


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _best_precision(device: torch.device) -> str:
    """Half precision on CUDA, with bf16's range where the GPU has it."""
    if device.type != "cuda":
        return "fp32"
    with torch.cuda.device(device):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def make_runtime(
    device: str | None = None, precision: str | None = None, preset: str | None = None, compiled: bool = False
) -> Runtime:
    """The runtime asked for, or the best of this machine; its preset depends on the family, see `with_preset`.

    Raises:
        InputError: a device that is not there, or an unknown precision or preset.
    """
    name = _best_device() if device is None else device
    rank = local_rank()
    found = device_named(f"cuda:{rank}" if name == "cuda" and rank is not None else name)
    precision = _best_precision(found) if precision is None else precision
    if precision not in (*PRECISIONS, *BITS):
        raise InputError(
            f"{precision!r}: unknown", f"choose one of {', '.join((*PRECISIONS, *BITS))}", field="precision"
        )
    if preset is not None:
        check_choice(preset, NAMES, "preset")
    return Runtime(found, precision, compiled=compiled)


def with_preset(runtime: Runtime, family: str, options: RuntimeOptions) -> Runtime:
    """The runtime with its preset for this family and card, and the preset's precision if the caller named none.

    Raises:
        InputError: int8 or nf4 on a device that cannot compute with them.
    """
    on_cuda = runtime.device.type == "cuda"
    memory = torch.cuda.get_device_properties(runtime.device).total_memory if on_cuda else None
    preset = preset_for(family, options.get("preset"), memory)
    precision = options.get("precision") or preset.precision or runtime.precision
    if precision in BITS and runtime.device.type not in ("cpu", "cuda"):
        raise InputError(f"{precision}: not on {runtime.device.type}", "choose fp32, bf16 or fp16", field="precision")
    return replace(runtime, preset=preset, precision=precision)
