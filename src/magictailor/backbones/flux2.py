"""FLUX.2: klein with Qwen3, dev with Mistral; each latent of the denoiser is 2 x 2 of the autoencoder's."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from magictailor.backbones.attention import Layout
from magictailor.backbones.families import klein_family
from magictailor.backbones.latents import Codec, Normalised
from magictailor.backbones.native_names import FLUX2
from magictailor.backbones.transformer import ATTENTION, Offsets, Parts, Transformer

GUIDANCE = 3.5  # of training, where it is an input: diffusers' own script
LENGTH = 512  # the pipelines' own


class Flux2Klein(Transformer):
    """Wraps a `Flux2KleinPipeline`."""

    encoders: Parts = {"qwen3": ("text_encoder", "tokenizer")}
    blocks = ("transformer_blocks.", "single_transformer_blocks.")
    native = FLUX2
    takes_references = True
    default_map_blocks = (0.6, 1.0)
    patch = 1

    def _codec(self) -> Codec:
        return Normalised(self.autoencoder)

    @property
    def family(self) -> str:
        return klein_family(self.config.num_single_layers)

    @property
    def settings(self) -> Sequence[str]:
        return ("sampling.steps=4", "sampling.guidance=1") if self.pipeline.config.get("is_distilled") else ()

    @property
    def lora_targets(self) -> Sequence[str]:
        """By their whole names where the ending is also that of other layers."""
        single = range(self.config.num_single_layers)
        return (*ATTENTION, "to_qkv_mlp_proj", *(f"single_transformer_blocks.{i}.attn.to_out" for i in single))

    def _encode(self, texts: Sequence[str]) -> dict[str, Tensor]:
        sequence, _ = self.pipeline.encode_prompt(list(texts), device=self.text_device, max_sequence_length=LENGTH)
        return {"sequence": sequence}

    def _tokens(self, text: str) -> tuple[str, Offsets]:
        tokenizer = self.pipeline.tokenizer
        read = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        tokenized = tokenizer(
            read, padding="max_length", max_length=LENGTH, truncation=True, return_offsets_mapping=True
        )
        return read, tokenized.offset_mapping

    def _inputs(self, noisy: Tensor, times: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        sequence, pipeline = tensors["sequence"], self.pipeline
        guided = bool(self.config.guidance_embeds)
        return {
            "hidden_states": pipeline._pack_latents(noisy),
            "encoder_hidden_states": sequence,
            "timestep": times,
            "img_ids": pipeline._prepare_latent_ids(noisy).to(noisy.device),
            "txt_ids": pipeline._prepare_text_ids(sequence).to(noisy.device),
            "guidance": torch.full((len(noisy),), GUIDANCE, device=noisy.device) if guided else None,
        }

    def _output(self, sample: Any, noisy: Tensor) -> Tensor:
        return sample.transpose(1, 2).reshape(noisy.shape)

    def _layout(self, tokens: int, length: int) -> Layout:
        return Layout(slice(length, None), slice(0, length))


class Flux2(Flux2Klein):
    """Wraps a `Flux2Pipeline` (dev): guidance is an input of the denoiser."""

    encoders: Parts = {"mistral3": ("text_encoder", "tokenizer")}
    negative = False

    @property
    def family(self) -> str:
        return "flux2-dev"

    def _tokens(self, text: str) -> tuple[str, Offsets]:
        from diffusers.pipelines.flux2.pipeline_flux2 import format_input

        tokenizer = getattr(self.pipeline.tokenizer, "tokenizer", self.pipeline.tokenizer)
        (messages,) = format_input([text], self.pipeline.system_message)
        read = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        tokenized = tokenizer(
            read, padding="max_length", max_length=LENGTH, truncation=True, return_offsets_mapping=True,
            add_special_tokens=False,
        )  # fmt: skip
        return read, tokenized.offset_mapping
