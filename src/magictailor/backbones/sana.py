"""Sana: text by true cross-attention; Gemma reads each prompt after an instruction."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import DiffusionPipeline
from torch import Tensor

from magictailor.backbones.latents import Codec, WithoutPosterior
from magictailor.backbones.runtime import CPU, Runtime
from magictailor.backbones.transformer import Names, Offsets, Parts, Transformer

LENGTH = 300  # the pipeline's own


class Sana(Transformer):
    """Wraps a `SanaPipeline`."""

    encoders: Parts = {"gemma2": ("text_encoder", "tokenizer")}
    condition: Names = {"sequence": "prompt_embeds", "mask": "prompt_attention_mask"}
    targets = ("to_q", "to_k", "to_v")
    attention = "attn2"
    patch = 1
    size_multiple = 32

    def __init__(self, name: str, pipeline: DiffusionPipeline, runtime: Runtime | None = CPU) -> None:
        super().__init__(name, pipeline, runtime)
        call = inspect.signature(type(self.pipeline).__call__).parameters
        self._instruction: list[str] = call["complex_human_instruction"].default
        self.pipeline.tokenizer.padding_side = "right"  # as the pipeline sets it before it encodes

    def _codec(self) -> Codec:
        return WithoutPosterior(self.autoencoder)

    def _own_size(self) -> int:
        return int(self.config.sample_size * self.codec.factor)

    @property
    def family(self) -> str:
        return "sana"

    def _encode(self, texts: Sequence[str]) -> dict[str, Tensor]:
        instruction = self._instruction if all(texts) else None  # the pipeline has none for the unconditional
        sequence, mask, _, _ = self.pipeline.encode_prompt(
            list(texts),
            False,
            device=self.text_device,
            max_sequence_length=LENGTH,
            complex_human_instruction=instruction,
        )
        return {"sequence": sequence, "mask": mask}

    def _tokens(self, text: str) -> tuple[str, Offsets]:
        """The first token and the last 299 of the instruction with the prompt."""
        tokenizer, instruction = self.pipeline.tokenizer, "\n".join(self._instruction)
        read = instruction + text.lower()
        length = len(tokenizer.encode(instruction)) + LENGTH - 2
        offsets = tokenizer(
            read, padding="max_length", max_length=length, truncation=True, return_offsets_mapping=True
        ).offset_mapping
        return read, [offsets[0], *offsets[-LENGTH + 1 :]]

    def _inputs(self, noisy: Tensor, times: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": tensors["sequence"],
            "encoder_attention_mask": tensors["mask"],
            "timestep": times * 1000 * self.config.timestep_scale,
        }

    def pipeline_inputs(self, prompts: Sequence[str], guidance: float) -> dict[str, Any]:
        inputs = super().pipeline_inputs(prompts, guidance)
        return inputs | {"use_resolution_binning": False, "negative_prompt": None}
