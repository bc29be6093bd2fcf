"""The embedded base: a small but real ``StableDiffusionPipeline``, shipped inside the package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from magictailor.common.logging import quiet_loading
from magictailor.weights import AUTOENCODER
from magictailor.world.tokenizer import LENGTH, build_tokenizer

SIZE = 128  # pixels
FACTOR = 8  # pixels per latent, in each direction
CHANNELS = 16  # per latent
HEAD = 32  # channels per attention head
TEXT_WIDTH = 160  # channels of the text encoder

TRAIN_STEPS = 1000
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": TRAIN_STEPS,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def new_autoencoder() -> AutoencoderKL:
    """128 x 128 pixels to 16 x 16 latents of 16 channels; 3.1 M parameters. Trained latents have mean 0 and variance 1."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(24, 48, 96, 128),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=SIZE,
        scaling_factor=1.0,
        shift_factor=0.0,  # Stable Diffusion 3's pipeline asks for one
        force_upcast=False,
    )


def new_text_encoder() -> CLIPTextModel:
    """Four layers of 160 channels, 1.5 M parameters."""
    tokenizer = build_tokenizer()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=TEXT_WIDTH // HEAD,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_unet() -> UNet2DConditionModel:
    """Cross-attention at 16 x 16, 8 x 8 and 4 x 4; 11.6 M parameters. ``attention_head_dim`` is the number of heads."""
    channels = (96, 160, 160)
    return UNet2DConditionModel(
        sample_size=SIZE // FACTOR,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        block_out_channels=channels,
        layers_per_block=1,
        attention_head_dim=tuple(c // HEAD for c in channels),
        cross_attention_dim=TEXT_WIDTH,
        use_linear_projection=True,
        norm_num_groups=16,
    )


def new_scheduler() -> DDIMScheduler:
    return DDIMScheduler(**SCHEDULE)


def new_networks() -> dict[str, Any]:
    """What is trained together, by its folder in diffusers format, the denoiser first."""
    return {"unet": new_unet(), "text_encoder": new_text_encoder()}


def assemble(networks: Mapping[str, Any], autoencoder: AutoencoderKL) -> StableDiffusionPipeline:
    """Combine the networks into a plain diffusers pipeline."""
    return StableDiffusionPipeline(
        vae=autoencoder,
        **networks,
        tokenizer=build_tokenizer(),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def load_autoencoder(folder: Path = AUTOENCODER) -> AutoencoderKL:
    """The shipped autoencoder, or one in another folder, frozen, in single precision."""
    quiet_loading()
    loaded: AutoencoderKL = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    return loaded.eval().requires_grad_(False)
