"""The embedded base: a small but real ``StableDiffusionPipeline``, shipped inside the package."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from magictailor.progress import quiet_loading
from magictailor.world.tokenizer import LENGTH, build_tokenizer

SIZE = 64  # pixels
FACTOR = 4  # pixels a latent
WEIGHTS = Path(__file__).parent / "weights"

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
    """Factor 4, four channels: 64 x 64 pixels to 16 x 16 latents."""
    kinds = 3
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * kinds,
        up_block_types=("UpDecoderBlock2D",) * kinds,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
    )


def new_text_encoder() -> CLIPTextModel:
    tokenizer = build_tokenizer()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            projection_dim=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_unet() -> UNet2DConditionModel:
    """Cross-attention at 16 x 16, 8 x 8 and 4 x 4; heads of 32 channels (the option counts heads)."""
    return UNet2DConditionModel(
        sample_size=SIZE // FACTOR,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        attention_head_dim=(2, 4, 6),
        cross_attention_dim=128,
        use_linear_projection=True,
        norm_num_groups=16,
    )


def new_scheduler() -> DDIMScheduler:
    return DDIMScheduler(**SCHEDULE)


def assemble(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, autoencoder: AutoencoderKL
) -> StableDiffusionPipeline:
    """The parts as a plain diffusers pipeline."""
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=build_tokenizer(),
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def load_autoencoder() -> AutoencoderKL:
    """The shipped one, frozen, in single precision."""
    quiet_loading()
    loaded: AutoencoderKL = AutoencoderKL.from_pretrained(
        WEIGHTS / "vae", torch_dtype=torch.float32, local_files_only=True
    )
    return loaded.eval().requires_grad_(False)


def load_embedded() -> StableDiffusionPipeline:
    """The shipped weights, in single precision."""
    quiet_loading()
    return StableDiffusionPipeline.from_pretrained(WEIGHTS, dtype=torch.float32, local_files_only=True)
