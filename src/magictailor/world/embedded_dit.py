"""The embedded transformer: a small but real ``StableDiffusion3Pipeline`` without T5, on the world's autoencoder."""

from collections.abc import Mapping
from typing import Any

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from magictailor.world.embedded import CHANNELS, FACTOR, HEAD, SIZE, TEXT_WIDTH
from magictailor.world.tokenizer import build_tokenizer

LENGTH = 48  # tokens of a text; the world's longest caption has 45
WIDTH, DEPTH = 192, 5
SECOND_WIDTH = 64  # channels of the second text encoder
SHIFT = 1.0  # of the flow's times: at 128 pixels noise hides little (Esser 2024, section 5.3.2)


def new_transformer() -> SD3Transformer2DModel:
    """Joint attention over 256 tokens of the image and the text's; 7.0 M parameters."""
    return SD3Transformer2DModel(
        sample_size=SIZE // FACTOR,
        patch_size=1,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_layers=DEPTH,
        attention_head_dim=HEAD,
        num_attention_heads=WIDTH // HEAD,
        joint_attention_dim=TEXT_WIDTH + SECOND_WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=TEXT_WIDTH + SECOND_WIDTH,
        pos_embed_max_size=SIZE // FACTOR,
        qk_norm="rms_norm",
    )


def _text_encoder(width: int, layers: int, heads: int) -> CLIPTextModelWithProjection:
    tokenizer = build_tokenizer()
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=SHIFT)


def new_networks() -> dict[str, Any]:
    """What is trained together, by its folder in diffusers format, the denoiser first; 9.0 M parameters.

    The first text encoder has the sizes of the U-Net's, so that training can start from it; the pipeline needs a second.
    """
    return {
        "transformer": new_transformer(),
        "text_encoder": _text_encoder(TEXT_WIDTH, 4, TEXT_WIDTH // HEAD),
        "text_encoder_2": _text_encoder(SECOND_WIDTH, 2, SECOND_WIDTH // HEAD),
    }


def assemble(networks: Mapping[str, Any], autoencoder: AutoencoderKL) -> StableDiffusion3Pipeline:
    """Combine the networks into a plain diffusers pipeline."""
    return StableDiffusion3Pipeline(
        vae=autoencoder,
        **networks,
        tokenizer=build_tokenizer(LENGTH),
        tokenizer_2=build_tokenizer(LENGTH),
        text_encoder_3=None,
        tokenizer_3=None,
        scheduler=new_scheduler(),
    )
