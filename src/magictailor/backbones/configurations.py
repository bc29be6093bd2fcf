"""What a checkpoint in one file does not say about its networks: their configurations, as data, by family.

Only what differs from the defaults of diffusers' and transformers' classes. Facts of the published models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Config = Mapping[str, Any]

UNET: Config = {"sample_size": 64, "layers_per_block": 2, "block_out_channels": (320, 640, 1280, 1280)}
VAE: Config = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
TEXT: Config = {
    "vocab_size": 49_408,
    "max_position_embeddings": 77,
    "bos_token_id": 49_406,
    "eos_token_id": 49_407,
    "pad_token_id": 1,
}
CLIP_L: Config = {
    **TEXT,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
OPEN_CLIP_H: Config = {  # 23 of its 24 layers: the condition is the one before the last
    **TEXT,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 512,
}
OPEN_CLIP_BIG_G: Config = {
    **TEXT,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
NOISE: Config = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
BANG = "!"  # OpenCLIP's padding


@dataclass(frozen=True)
class Configuration:
    """``encoders``: in the pipeline, each with its class and configuration; ``pads``: by tokenizer, if not the end."""

    pipeline: str
    unet: Config
    encoders: Mapping[str, tuple[str, Config]]
    vae: Config = field(default_factory=lambda: VAE)
    pads: Mapping[str, str] = field(default_factory=dict)


_SD2 = {**UNET, "attention_head_dim": (5, 10, 20, 20), "cross_attention_dim": 1024, "use_linear_projection": True}
_SDXL = {
    "sample_size": 128,
    "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD = "StableDiffusionPipeline"
CONFIGURATIONS: dict[str, Configuration] = {
    "sd1": Configuration(
        SD,
        {**UNET, "attention_head_dim": 8, "cross_attention_dim": 768},
        {"text_encoder": ("CLIPTextModel", CLIP_L)},
    ),
    "sd2": Configuration(SD, _SD2, {"text_encoder": ("CLIPTextModel", OPEN_CLIP_H)}, pads={"tokenizer": BANG}),
    "sd2-v": Configuration(
        SD,
        {**_SD2, "sample_size": 96},
        {"text_encoder": ("CLIPTextModel", OPEN_CLIP_H)},
        pads={"tokenizer": BANG},
    ),
    "sdxl": Configuration(
        "StableDiffusionXLPipeline",
        _SDXL,
        {
            "text_encoder": ("CLIPTextModel", CLIP_L),
            "text_encoder_2": ("CLIPTextModelWithProjection", OPEN_CLIP_BIG_G),
        },
        vae={**VAE, "sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
        pads={"tokenizer_2": BANG},
    ),
}
