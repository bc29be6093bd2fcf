"""A tiny flow-matching model with joint attention, two blocks of real diffusers classes, behind the backbone's contract.

It shows what the contract leaves to a family: another denoiser, continuous times, text in the same attention row as the
image, and maps that need not be square.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn
from torch.func import functional_call

from magictailor.backbones.attention import AttentionReader, word_weights
from magictailor.backbones.contract import Blocks, Condition, Prediction
from magictailor.backbones.stable_diffusion import StableDiffusion
from tiny import pipeline

PATCH = 2  # latents a token


class TinyJoint(StableDiffusion):
    """Words, text encoder and autoencoder of the tiny Stable Diffusion; an SD3 transformer instead of the U-Net."""

    def __init__(self) -> None:
        super().__init__("joint", pipeline(), map_side=4)
        torch.manual_seed(0)
        self.transformer = SD3Transformer2DModel(
            sample_size=8, patch_size=PATCH, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=16, caption_projection_dim=16, pooled_projection_dim=16, out_channels=4,
            pos_embed_max_size=8, qk_norm="rms_norm",
        )  # fmt: skip
        nn.init.normal_(self.transformer.proj_out.weight, std=0.2)
        self.transformer.requires_grad_(False).eval()

    @property
    def denoiser(self) -> nn.Module:
        return self.transformer if hasattr(self, "transformer") else super().denoiser

    @property
    def lora_targets(self) -> Sequence[str]:
        return ("to_q", "to_k", "to_v", "to_out.0")

    def times(self, uniform: Tensor) -> Tensor:
        return uniform  # 0: the image, 1: noise

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        t = times[:, None, None, None]
        return (1 - t) * latents + t * noise

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return noise - latents

    def encode_text(self, prompts: Sequence[str], words: Sequence[str] = ()) -> Condition:
        ids = self._words.token_ids("clip", prompts)
        out = self.pipeline.text_encoder(ids)
        return Condition(
            {"sequence": out.last_hidden_state, "pooled": out.pooler_output}, self._words.spans("clip", ids, words)
        )

    def map_grid(self, blocks: Blocks) -> tuple[int, int]:
        return 8 // PATCH, 8 // PATCH

    @contextmanager
    def reading_attention(self, blocks: Blocks) -> Iterator[None]:
        layers: Any = self.transformer.transformer_blocks
        self._reader = AttentionReader([block.attn for block in layers[blocks == "up" :]])
        try:
            yield
        finally:
            self._reader.close()
            self._reader = None

    def predict(
        self,
        noisy: Tensor,
        time: Tensor,
        condition: Condition,
        *,
        attend: Sequence[Sequence[str]] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        text, pooled = condition.tensors["sequence"], condition.tensors["pooled"]
        inputs = (noisy, text, pooled, time * 1000)

        def forward() -> Tensor:
            if weights is None:
                return self.transformer(*inputs).sample
            return functional_call(self.transformer, dict(weights), inputs, tie_weights=False).sample

        if attend is None:
            return Prediction(forward())
        assert self._reader is not None
        with self._reader.reading(word_weights(condition, attend, text.shape[1], text.device)) as maps:
            output = forward()
        mean = torch.stack(maps).mean(0)
        height, width = (side // PATCH for side in noisy.shape[-2:])
        return Prediction(output, mean.reshape(*mean.shape[:2], height, width))
