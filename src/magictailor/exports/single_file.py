"""A model's weights under the original code's names, as in the one-file checkpoints of A1111 and ComfyUI.

The inverse of diffusers' `from_single_file`, which the tests compare with.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from magictailor.backbones.lora_names import sgm_name

Weights = Mapping[str, Tensor]

UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_NAMES = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.attentions.0": "mid.attn_1",
    "mid_block.resnets.1": "mid.block_2",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "downsamplers.0.conv": "downsample.conv",
    "upsamplers.0.conv": "upsample.conv",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
}
OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.+)")


def unet_name(key: str, layers: int, attends: Mapping[int, bool]) -> str:
    """The name of a U-Net tensor.

    Args:
        key: its name in diffusers.
        layers: per block.
        attends: whether each up block has attention, which shifts its upsampler's number.
    """
    module, _, kind = key.rpartition(".")
    if module in UNET_ENDS:
        return f"{UNET_ENDS[module]}.{kind}"
    if ".attentions." in module:
        return f"{sgm_name(module, layers)}.{kind}"
    if module.startswith("mid_block.resnets."):
        _, _, number, layer = module.split(".")
        return f"middle_block.{2 * int(number)}.{UNET_RESNET[layer]}.{kind}"
    match = BLOCK.fullmatch(module)
    assert match is not None, key
    way, block, part, resnet, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if part == "resnets":
        index = block * (layers + 1) + resnet + (way == "down")
        return f"{'input' if way == 'down' else 'output'}_blocks.{index}.0.{UNET_RESNET[rest]}.{kind}"
    if way == "down":
        return f"input_blocks.{1 + block * (layers + 1) + layers}.0.op.{kind}"
    return f"output_blocks.{block * (layers + 1) + layers}.{2 if attends[block] else 1}.conv.{kind}"


def vae_tensor(key: str, tensor: Tensor, blocks: int) -> tuple[str, Tensor]:
    """The name and the tensor of the autoencoder. Its attention's matrices become 1 x 1 convolutions.

    ``blocks``: the number of up blocks.
    """
    for ours, theirs in VAE_NAMES.items():
        key = key.replace(ours, theirs)
    if ".attn_1." in key:
        for ours, theirs in VAE_ATTENTION.items():
            key = key.replace(f".{ours}.", f".{theirs}.")
        if tensor.ndim == 2:
            tensor = tensor[..., None, None]
    key = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", key)
    key = re.sub(r"down_blocks\.(\d+)\.", r"down.\1.", key)
    key = re.sub(r"up_blocks\.(\d+)\.", lambda m: f"up.{blocks - 1 - int(m[1])}.", key)
    return re.sub(r"(up\.\d+\.)resnets\.", r"\1block.", key), tensor


def open_clip_weights(weights: Weights, spare: bool) -> dict[str, Tensor]:
    """OpenCLIP's text encoder, with queries, keys and values in one matrix.

    ``spare``: append a copy of the last layer. Stable Diffusion 2 conditions on the last layer but one, so diffusers
    drops the last; other tools require it.
    """
    out: dict[str, Tensor] = {}
    count = 1 + max(int(k.split(".")[2]) for k in weights if k.startswith("encoder.layers."))
    for key, tensor in weights.items():
        if key == "text_projection.weight":
            out["text_projection"] = tensor.T
            continue
        if not key.startswith("encoder.layers."):
            ours = next(o for o in OPEN_CLIP if key.startswith(o))
            out[key.replace(ours, OPEN_CLIP[ours])] = tensor
            continue
        _, _, layer, rest = key.split(".", 3)
        kind = rest.rpartition(".")[2]
        for index in {int(layer), count if spare and int(layer) == count - 1 else int(layer)}:
            start = f"transformer.resblocks.{index}"
            if rest.startswith("self_attn.q_proj"):
                parts = [weights[f"encoder.layers.{layer}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
                out[f"{start}.attn.in_proj_{kind}"] = torch.cat(parts)
            elif not rest.startswith(("self_attn.k_proj", "self_attn.v_proj")):
                ours = next(o for o in OPEN_CLIP_LAYER if rest.startswith(o))
                out[f"{start}.{rest.replace(ours, OPEN_CLIP_LAYER[ours])}"] = tensor
    return out


def _text_weights(encoder: Any, words: int) -> dict[str, Tensor]:
    """Without the rows of added words, and without the prefix ``text_model.`` of some versions of transformers."""
    weights = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items() if "position_ids" not in k}
    table = "embeddings.token_embedding.weight"
    return {**weights, table: weights[table][:words]}


def single_file(networks: Mapping[str, Any], words: int) -> dict[str, Tensor]:
    """All weights of a Stable Diffusion model under the original names.

    Args:
        networks: by folder name in diffusers: unet, vae, text_encoder, text_encoder_2.
        words: the size of the base's own vocabulary; later rows are left out.
    """
    unet, vae, encoder = networks["unet"], networks["vae"], networks["text_encoder"]
    layers, blocks = unet.config.layers_per_block, len(vae.config.block_out_channels)
    attends = {i: hasattr(block, "attentions") for i, block in enumerate(unet.up_blocks)}
    out = {f"model.diffusion_model.{unet_name(k, layers, attends)}": v for k, v in unet.state_dict().items()}
    for key, tensor in vae.state_dict().items():
        name, tensor = vae_tensor(key, tensor, blocks)
        out[f"first_stage_model.{name}"] = tensor
    text = _text_weights(encoder, words)
    if "text_encoder_2" in networks:
        large = open_clip_weights(_text_weights(networks["text_encoder_2"], words), spare=False)
        out |= {f"conditioner.embedders.0.transformer.text_model.{k}": v for k, v in text.items()}
        return out | {f"conditioner.embedders.1.model.{k}": v for k, v in large.items()}
    if encoder.config.hidden_act == "quick_gelu":  # CLIP's, Stable Diffusion 1.x
        return out | {f"cond_stage_model.transformer.text_model.{k}": v for k, v in text.items()}
    return out | {f"cond_stage_model.model.{k}": v for k, v in open_clip_weights(text, spare=True).items()}
