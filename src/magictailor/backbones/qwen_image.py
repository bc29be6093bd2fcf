"""Qwen-Image: Qwen2.5-VL reads the prompt in a template; its video autoencoder sees one frame."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from magictailor.backbones.attention import Layout
from magictailor.backbones.latents import Codec, OneFrame
from magictailor.backbones.native_names import QWEN_IMAGE
from magictailor.backbones.transformer import Names, Offsets, Parts, Transformer


class QwenImage(Transformer):
    """Wraps a `QwenImagePipeline`."""

    encoders: Parts = {"qwen2_5_vl": ("text_encoder", "tokenizer")}
    condition: Names = {"sequence": "prompt_embeds", "mask": "prompt_embeds_mask"}
    native = QWEN_IMAGE

    def _codec(self) -> Codec:
        return OneFrame(self.autoencoder)

    @property
    def family(self) -> str:
        return "qwen-image"

    def _encode(self, texts: Sequence[str]) -> dict[str, Tensor]:
        sequence, mask = self.pipeline.encode_prompt(list(texts), device=self.text_device)
        return {
            "sequence": sequence,
            "mask": torch.ones(sequence.shape[:2], dtype=torch.bool) if mask is None else mask.bool(),
        }

    def _tokens(self, text: str) -> tuple[str, Offsets]:
        pipeline = self.pipeline
        read, skipped = pipeline.prompt_template_encode.format(text), pipeline.prompt_template_encode_start_idx
        length = pipeline.tokenizer_max_length + skipped
        tokenized = pipeline.tokenizer(read, max_length=length, truncation=True, return_offsets_mapping=True)
        return read, tokenized.offset_mapping[skipped:]

    def _inputs(self, noisy: Tensor, times: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        number, channels, height, width = noisy.shape
        return {
            "hidden_states": self.pipeline._pack_latents(noisy, number, channels, height, width),
            "encoder_hidden_states": tensors["sequence"],
            "encoder_hidden_states_mask": tensors["mask"],
            "timestep": times,
            "img_shapes": [[(1, height // 2, width // 2)]] * number,
        }

    def _output(self, sample: Any, noisy: Tensor) -> Tensor:
        height, width = (side * self.codec.factor for side in noisy.shape[-2:])
        unpacked: Tensor = self.pipeline._unpack_latents(sample, height, width, self.codec.factor)
        return unpacked[:, :, 0]

    def pipeline_inputs(self, prompts: Sequence[str], guidance: float) -> dict[str, Any]:
        inputs = super().pipeline_inputs(prompts, guidance)
        return inputs | {"true_cfg_scale": inputs.pop("guidance_scale")}

    def guidance_inputs(self, guidance: float) -> dict[str, Any]:
        return {"true_cfg_scale": guidance, "negative_prompt": ""}

    def _call_arguments(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"prompt_embeds": tensors["sequence"].to(self.runtime.dtype), "prompt_embeds_mask": tensors["mask"]}

    def _layout(self, tokens: int, length: int) -> Layout:
        return Layout(slice(length, None), slice(0, length))
