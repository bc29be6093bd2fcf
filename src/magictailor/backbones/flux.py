"""FLUX.1: T5's sequence and CLIP's pooled vector; latents packed two by two; guidance may be an input."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from magictailor.backbones.attention import Layout
from magictailor.backbones.native_names import FLUX
from magictailor.backbones.transformer import ATTENTION, Names, Offsets, Parts, Transformer

GUIDANCE = 3.5  # of training, where it is an input: diffusers' own script
T5_LENGTH = 512  # the pipeline's own


class Flux(Transformer):
    """Wraps a `FluxPipeline`."""

    encoders: Parts = {"clip_l": ("text_encoder", "tokenizer"), "t5": ("text_encoder_2", "tokenizer_2")}
    condition: Names = {"sequence": "prompt_embeds", "pooled": "pooled_prompt_embeds"}
    blocks = ("transformer_blocks.", "single_transformer_blocks.")
    targets = (
        *ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
        "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
    )  # fmt: skip
    native = FLUX
    default_map_blocks = (0.79, 1.0)  # blocks 15 to 18 of 19: ConceptAttention
    negative = False

    @property
    def family(self) -> str:
        return "flux"

    @property
    def settings(self) -> Sequence[str]:
        """schnell has no guidance, and is distilled to four steps."""
        return () if self.config.guidance_embeds else ("sampling.steps=4", "sampling.guidance=0")

    def _encode(self, texts: Sequence[str]) -> dict[str, Tensor]:
        sequence, pooled, _ = self.pipeline.encode_prompt(
            list(texts), None, device=self.text_device, max_sequence_length=T5_LENGTH
        )
        return {"sequence": sequence, "pooled": pooled}

    def _tokens(self, text: str) -> tuple[str, Offsets]:
        tokenized = self.pipeline.tokenizer_2(
            text, padding="max_length", max_length=T5_LENGTH, truncation=True, return_offsets_mapping=True
        )
        return text, tokenized.offset_mapping

    def _inputs(self, noisy: Tensor, times: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        number, channels, height, width = noisy.shape
        sequence, pipeline = tensors["sequence"], self.pipeline
        guided = bool(self.config.guidance_embeds)
        return {
            "hidden_states": pipeline._pack_latents(noisy, number, channels, height, width),
            "encoder_hidden_states": sequence,
            "pooled_projections": tensors["pooled"],
            "timestep": times,
            "img_ids": pipeline._prepare_latent_image_ids(number, height // 2, width // 2, noisy.device, noisy.dtype),
            "txt_ids": noisy.new_zeros(sequence.shape[1], 3),
            "guidance": torch.full((number,), GUIDANCE, device=noisy.device) if guided else None,
        }

    def _output(self, sample: Any, noisy: Tensor) -> Tensor:
        height, width = (side * self.codec.factor for side in noisy.shape[-2:])
        unpacked: Tensor = self.pipeline._unpack_latents(sample, height, width, self.codec.factor)
        return unpacked

    def _layout(self, tokens: int, length: int) -> Layout:
        return Layout(slice(length, None), slice(0, length))
