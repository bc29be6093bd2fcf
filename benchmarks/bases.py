"""Models with the real families' shapes and random weights, and a pair of noise images, for the benchmarks."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image

from magictailor.backbones.clip_tokenizer import END, clip_tokenizer
from magictailor.backbones.configurations import CONFIGURATIONS, NOISE
from magictailor.backbones.runtime import make_runtime
from magictailor.backbones.sdxl import StableDiffusionXL
from magictailor.backbones.stable_diffusion import StableDiffusion
from magictailor.data import Pair, ReferenceImage, Sample

FAMILIES = tuple(CONFIGURATIONS)


def _scaled(config: Any, width: float, *names: str) -> dict[str, Any]:
    sizes = {n: config[n] for n in names}
    return {**config, **{n: tuple(int(v * width) for v in s) if isinstance(s, tuple) else int(s * width) for n, s in sizes.items()}}  # fmt: skip


def _networks(family: str, width: float, size: int | None) -> dict[str, Any]:
    config = CONFIGURATIONS[family]
    groups = max(1, int(32 * width)) * (2 if width < 1 else 1)
    heads = config.unet["attention_head_dim"]  # the number of heads, despite the name; the width of a head stays
    unet = _scaled(config.unet, width, "block_out_channels", "cross_attention_dim")
    unet["attention_head_dim"] = tuple(max(1, round(h * width)) for h in (heads if isinstance(heads, tuple) else (heads,) * 4))  # fmt: skip
    if size is not None:
        unet["sample_size"] = size // 2 ** (len(config.vae["block_out_channels"]) - 1)
    networks: dict[str, Any] = {
        "unet": UNet2DConditionModel(**unet, norm_num_groups=groups),
        "vae": AutoencoderKL(**_scaled(config.vae, width, "block_out_channels"), norm_num_groups=groups),
    }
    for name, (kind, encoder) in config.encoders.items():
        text = _scaled(encoder, width, "hidden_size", "intermediate_size", "projection_dim", "num_attention_heads")
        networks[name] = getattr(transformers, kind)(transformers.CLIPTextConfig(**text))
    return networks


def _allocate(network: Any, dtype: torch.dtype) -> Any:
    """Give a network on the meta device allocated but unwritten weights; buffers keep their values."""
    buffers = dict(network.named_buffers())
    network.to(dtype).to_empty(device="cpu")
    for name, values in network.named_buffers():
        values.copy_(buffers[name])
    return network


def base(
    family: str,
    width: float = 1,
    device: str = "cpu",
    precision: str = "fp32",
    empty: bool = False,
    size: int | None = None,
) -> StableDiffusion:
    """A family's networks with all widths times ``width``.

    Args:
        empty: allocate the weights without writing them.
        size: of the images in pixels; the family's own, unless given.
    """
    torch.manual_seed(0)
    runtime, config = make_runtime(device, precision), CONFIGURATIONS[family]
    if empty:
        with init_empty_weights():
            networks = _networks(family, width, size)
        networks = {n: _allocate(network, runtime.dtype) for n, network in networks.items()}
    else:
        with torch.device(device):  # a card makes random numbers faster
            networks = _networks(family, width, size)
    for name in config.encoders:
        tokenizer = name.replace("text_encoder", "tokenizer")
        networks[tokenizer] = clip_tokenizer(config.pads.get(tokenizer, END))
    options: dict[str, Any] = {"add_watermarker": False}
    if config.pipeline == "StableDiffusionPipeline":
        options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = getattr(diffusers, config.pipeline)(
        scheduler=DDIMScheduler(**NOISE, prediction_type="v_prediction" if family == "sd2-v" else "epsilon"),
        **networks,
        **options,
    )
    backbone_class = StableDiffusionXL if family == "sdxl" else StableDiffusion
    return backbone_class(family, pipeline, runtime=runtime)


def pair(size: int, images: int = 3) -> Pair:
    """Two samples of ``images`` noise images each."""
    random = np.random.default_rng(0)

    def reference(number: int, top: int) -> ReferenceImage:
        pixels, mask = random.integers(0, 256, (size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
        mask[:top] = 255
        return ReferenceImage.of(Path(f"{number}.png"), Image.fromarray(pixels), Image.fromarray(mask))

    tops = {"person": size * 3 // 4, "hair": size // 4}
    samples = [Sample(n, f"<{n}>", tuple(reference(i, top) for i in range(images))) for n, top in tops.items()]
    return Pair("noise", tuple(samples))
