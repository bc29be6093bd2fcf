"""Tiny ControlNets of the real classes, with random weights, for the tiny pipelines of the families."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    FluxControlNetModel,
    QwenImageControlNetModel,
    SanaControlNetModel,
    SD3ControlNetModel,
    UNet2DConditionModel,
    ZImageControlNetModel,
)
from torch import nn

WIDTH = 320
EMBEDDING = (4, 8)  # pixels to latents of the tiny autoencoders: one halving


def _of_transformer(kind: Any, **changes: Any) -> Callable[[Any], Any]:
    def build(pipeline: Any) -> Any:
        return kind.from_config({**pipeline.transformer.config, "num_layers": 1, **changes})

    return build


def _z_image(pipeline: Any) -> Any:
    config = pipeline.transformer.config
    return ZImageControlNetModel(
        control_layers_places=[0, 2], control_refiner_layers_places=[0], control_in_dim=config.in_channels,
        dim=config.dim, n_refiner_layers=1, n_heads=config.n_heads, n_kv_heads=config.n_kv_heads,
    )  # fmt: skip


def _unet(pipeline: Any) -> Any:
    return ControlNetModel.from_unet(pipeline.unet, conditioning_embedding_out_channels=EMBEDDING)


def _union(pipeline: Any) -> Any:
    """The class has 320 channels written into it: the tiny U-Net gets as many."""
    config = {**pipeline.unet.config, "block_out_channels": (WIDTH, 32)}
    pipeline.unet = UNet2DConditionModel.from_config(config).eval().requires_grad_(False)
    return ControlNetUnionModel.from_unet(pipeline.unet, conditioning_embedding_out_channels=EMBEDDING)


BUILDERS: dict[str, Callable[[Any], Any]] = {
    "sd1": _unet,
    "sdxl": _unet,
    "sdxl-union": _union,
    "sd3": _of_transformer(SD3ControlNetModel),
    "flux": _of_transformer(FluxControlNetModel, num_single_layers=1),
    "flux-union": _of_transformer(FluxControlNetModel, num_single_layers=1, num_mode=5),
    "qwen-image": _of_transformer(QwenImageControlNetModel),
    "z-image": _z_image,
    "sana": _of_transformer(SanaControlNetModel),
}


def save(name: str, pipeline: Any, folder: Path) -> Path:
    """A ControlNet whose random weights change something, in diffusers format."""
    torch.manual_seed(1)
    made = BUILDERS[name](pipeline)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.2)
    made.save_pretrained(folder)
    return folder
