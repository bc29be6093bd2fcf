"""What a U-Net's layers are called elsewhere: tables and one rule, no tensors.

diffusers counts blocks and the layers in them; the original code (sgm) counts both ways through the network, one
number a layer. kohya writes either with ``_`` for ``.`` after ``lora_unet_``; ComfyUI's generic keys are sgm's own.
"""

import re

BLOCK = re.compile(r"(down|mid|up)_block(?:s\.(\d+))?\.attentions\.(\d+)\.(.+)")


def sgm_name(module: str, layers: int) -> str:
    """``down_blocks.1.attentions.0.proj_in`` to ``input_blocks.4.1.proj_in``, of a U-Net with this many layers a block.

    A block on the way down takes ``layers`` numbers and one for its downsampler, after number 0 of the first
    convolution; one on the way up takes ``layers + 1``. Number 1 inside a layer is its transformer, 0 its resnet.

    Raises:
        ValueError: not a layer of a transformer.
    """
    match = BLOCK.fullmatch(module)
    if match is None:
        raise ValueError(f"{module}: not in a U-Net's transformers")
    way, block, layer, rest = match[1], int(match[2] or 0), int(match[3]), match[4]
    if way == "mid":
        return f"middle_block.1.{rest}"
    if way == "down":
        return f"input_blocks.{1 + block * (layers + 1) + layer}.1.{rest}"
    return f"output_blocks.{block * (layers + 1) + layer}.1.{rest}"


def kohya_name(module: str, layers: int, sgm: bool) -> str:
    """``lora_unet_...``; ``sgm``: SDXL's files hold the original code's names, earlier families diffusers'."""
    return "lora_unet_" + (sgm_name(module, layers) if sgm else module).replace(".", "_")


def comfyui_name(module: str, layers: int) -> str:
    return "diffusion_model." + sgm_name(module, layers)
