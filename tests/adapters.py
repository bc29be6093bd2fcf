"""Tiny IP-Adapters of random weights in their authors' format, and image encoders, for the tiny pipelines."""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterTimeImageProjection
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, SiglipVisionConfig, SiglipVisionModel

from magictailor.common.tensors import prefixed, write_tensors

WIDTH, TOKENS = 8, 4


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape) * 0.5


def _plain(pipeline: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """For U-Nets and FLUX.1: one projection to four tokens, keys and values for each cross-attention."""
    unet = getattr(pipeline, "unet", None)
    width = unet.config.cross_attention_dim if unet else pipeline.transformer.config.joint_attention_dim
    projection = {"proj.weight": _random(TOKENS * width, WIDTH), "proj.bias": _random(TOKENS * width)}
    projection |= {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    layers: dict[str, Tensor] = {}
    if unet:
        crossed = [unet.get_submodule(n.removesuffix(".processor")) for n in unet.attn_processors if "attn2" in n]
        for number, layer in enumerate(crossed):
            for name in ("to_k_ip", "to_v_ip"):
                layers[f"{2 * number + 1}.{name}.weight"] = _random(layer.inner_dim, width)
    else:
        inner = pipeline.transformer.inner_dim
        for number in range(len(pipeline.transformer.transformer_blocks)):
            for name in ("to_k_ip", "to_v_ip"):
                layers |= {f"{number}.{name}.weight": _random(inner, width), f"{number}.{name}.bias": _random(inner)}
    return projection, layers


def _sd3(pipeline: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    config = pipeline.transformer.config
    width = config.attention_head_dim * config.num_attention_heads
    projection = IPAdapterTimeImageProjection(
        embed_dim=WIDTH, output_dim=width, hidden_dim=64, heads=1, num_queries=TOKENS, timestep_in_dim=8
    )
    layers: dict[str, Tensor] = {}
    for number, _ in enumerate(pipeline.transformer.attn_processors):
        processor = SD3IPAdapterJointAttnProcessor2_0(width, width, config.attention_head_dim, timesteps_emb_dim=64)
        layers |= prefixed(str(number), {k: _random(*v.shape) for k, v in processor.state_dict().items()})
    return dict(projection.state_dict()), layers


def save(name: str, pipeline: Any, folder: Path) -> tuple[str, str]:
    """The adapter's file and its encoder's folder."""
    torch.manual_seed(2)
    projection, layers = _sd3(pipeline) if name == "sd3" else _plain(pipeline)
    file = folder / "adapter.safetensors"
    write_tensors(file, {**prefixed("image_proj", projection), **prefixed("ip_adapter", layers)})
    sizes = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape = {**sizes, "image_size": 16, "patch_size": 8}
    if name == "sd3":
        SiglipVisionModel(SiglipVisionConfig(**shape)).save_pretrained(folder / "encoder")
    else:
        CLIPVisionModelWithProjection(CLIPVisionConfig(**shape, projection_dim=WIDTH)).save_pretrained(
            folder / "encoder"
        )
    return str(file), str(folder / "encoder")
