"""A frozen denoiser's attention blocks in 8 or 4 bits, by bitsandbytes; LoRA on top stays in full."""

from typing import Any

import torch
from torch import nn

from magictailor.common.errors import InputError


def _quantized(layer: nn.Linear, bits: int, dtype: torch.dtype) -> nn.Module:
    """The same layer; its weight is turned into bits when it is moved to where it runs."""
    import bitsandbytes.nn as bnb

    shape, bias = (layer.in_features, layer.out_features), layer.bias is not None
    new: Any
    if bits == 8:
        new = bnb.Linear8bitLt(*shape, bias, has_fp16_weights=False, device="meta")
        new.weight = bnb.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
    else:
        new = bnb.Linear4bit(*shape, bias, compute_dtype=dtype, quant_type="nf4", device="meta")
        new.weight = bnb.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4", module=new)
    new.bias = layer.bias
    return new


def quantize(denoiser: nn.Module, bits: int, dtype: torch.dtype, blocks: tuple[str, ...]) -> None:
    """Replace the linear layers of its blocks, whose names contain one of ``blocks``.

    Raises:
        InputError: bitsandbytes is not installed.
    """
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise InputError(
            "int8 and nf4 (in preset 8gb for SDXL) need bitsandbytes",
            "run `pip install 'magictailor[quantize]'`",
            field="precision",
        ) from error
    for name, module in list(denoiser.named_modules()):
        if type(module) is nn.Linear and any(block in f".{name}" for block in blocks):
            parent, _, last = name.rpartition(".")
            setattr(denoiser.get_submodule(parent), last, _quantized(module, bits, dtype))
    setattr(denoiser, f"is_loaded_in_{bits}bit", True)  # what peft asks before it adapts such layers
