"""What a transformer's layers are called in its authors' own code, which ComfyUI keeps: tables, no tensors.

Sources: the layer names in ComfyUI's key maps for loading diffusers' files (comfy/utils.py: flux, mmdit, z_image), and
diffusers' converters of single files. Several of diffusers' layers may be one there, in the order given.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

Table = Mapping[str, tuple[str, ...]]  # the own name: diffusers' layers in it; {} is the block's number


def _qkv(attention: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{attention}.{name}" for name in names or ("to_q", "to_k", "to_v"))


ADDED = ("add_q_proj", "add_k_proj", "add_v_proj")
_DOUBLE, _SINGLE = "transformer_blocks.{}", "single_transformer_blocks.{}"
_STREAMS: Table = {
    "double_blocks.{}.img_attn.qkv": _qkv(f"{_DOUBLE}.attn"),
    "double_blocks.{}.txt_attn.qkv": _qkv(f"{_DOUBLE}.attn", *ADDED),
    "double_blocks.{}.img_attn.proj": (f"{_DOUBLE}.attn.to_out.0",),
    "double_blocks.{}.txt_attn.proj": (f"{_DOUBLE}.attn.to_add_out",),
}
FLUX: Table = {
    **_STREAMS,
    "double_blocks.{}.img_mlp.0": (f"{_DOUBLE}.ff.net.0.proj",),
    "double_blocks.{}.img_mlp.2": (f"{_DOUBLE}.ff.net.2",),
    "double_blocks.{}.txt_mlp.0": (f"{_DOUBLE}.ff_context.net.0.proj",),
    "double_blocks.{}.txt_mlp.2": (f"{_DOUBLE}.ff_context.net.2",),
    "single_blocks.{}.linear1": (*_qkv(f"{_SINGLE}.attn"), f"{_SINGLE}.proj_mlp"),
    "single_blocks.{}.linear2": (f"{_SINGLE}.proj_out",),
}
FLUX2: Table = {
    **_STREAMS,
    "single_blocks.{}.linear1": (f"{_SINGLE}.attn.to_qkv_mlp_proj",),
    "single_blocks.{}.linear2": (f"{_SINGLE}.attn.to_out",),
}
SD3: Table = {
    "joint_blocks.{}.x_block.attn.qkv": _qkv(f"{_DOUBLE}.attn"),
    "joint_blocks.{}.x_block.attn2.qkv": _qkv(f"{_DOUBLE}.attn2"),
    "joint_blocks.{}.context_block.attn.qkv": _qkv(f"{_DOUBLE}.attn", *ADDED),
    "joint_blocks.{}.x_block.attn.proj": (f"{_DOUBLE}.attn.to_out.0",),
    "joint_blocks.{}.x_block.attn2.proj": (f"{_DOUBLE}.attn2.to_out.0",),
    "joint_blocks.{}.context_block.attn.proj": (f"{_DOUBLE}.attn.to_add_out",),
}
Z_IMAGE: Table = {
    name: layers
    for part in ("layers", "noise_refiner", "context_refiner")
    for name, layers in {
        f"{part}.{{}}.attention.qkv": _qkv(f"{part}.{{}}.attention"),
        f"{part}.{{}}.attention.out": (f"{part}.{{}}.attention.to_out.0",),
    }.items()
}
QWEN_IMAGE: Table = {  # diffusers' own names
    name: (name,) for name in (*_qkv(f"{_DOUBLE}.attn"), f"{_DOUBLE}.attn.to_out.0")
}


@dataclass(frozen=True)
class Native:
    """A layer of the authors' own code, and the layers of diffusers that it holds, in order."""

    name: str
    modules: tuple[str, ...]


def native_layer(module: str, table: Table) -> Native:
    """The native layer that holds this layer of diffusers.

    Raises:
        ValueError: none does.
    """
    numbers = re.findall(r"(?<=\.)\d+(?=\.)", module)
    number = numbers[0] if numbers else ""
    for name, layers in table.items():
        modules = tuple(layer.format(number) for layer in layers)
        if module in modules:
            return Native(name.format(number), modules)
    raise ValueError(f"{module}: not a layer of the original code")
