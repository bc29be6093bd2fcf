"""Z-Image: one stream of image and text; its time runs from noise to image, and its prediction is negated."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from magictailor.backbones.attention import Layout
from magictailor.backbones.native_names import Z_IMAGE
from magictailor.backbones.transformer import Names, Offsets, Parts, Transformer

LENGTH = 512  # the pipeline's own
MULTIPLE = 32  # image and text are padded to multiples of so many tokens


class ZImage(Transformer):
    """Wraps a `ZImagePipeline`."""

    encoders: Parts = {"qwen3": ("text_encoder", "tokenizer")}
    condition: Names = {"sequence": "prompt_embeds"}
    blocks = ("layers.", "noise_refiner.", "context_refiner.")
    native = Z_IMAGE
    attention = "attention"
    no_guidance = 0.0  # it is added to the conditional prediction

    def _own_size(self) -> int:
        return 1024

    @property
    def family(self) -> str:
        return "z-image"

    @property
    def settings(self) -> Sequence[str]:
        """Turbo is distilled to eight steps without guidance; its configuration does not say so."""
        return ("sampling.steps=9", "sampling.guidance=0") if "turbo" in self.name.lower() else ()

    def _encode(self, texts: Sequence[str]) -> dict[str, Tensor]:
        rows, _ = self.pipeline.encode_prompt(list(texts), device=self.text_device, do_classifier_free_guidance=False)
        sequence = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        return {"sequence": sequence, "mask": torch.arange(sequence.shape[1]) < lengths[:, None]}

    def _tokens(self, text: str) -> tuple[str, Offsets]:
        tokenizer = self.pipeline.tokenizer
        read = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True, enable_thinking=True
        )
        tokenized = tokenizer(read, max_length=LENGTH, truncation=True, return_offsets_mapping=True)
        return read, tokenized.offset_mapping

    def _rows(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        """The sequences without padding."""
        lengths = tensors["mask"].sum(1).tolist()
        return [row[:length] for row, length in zip(tensors["sequence"], lengths, strict=True)]

    def _inputs(self, noisy: Tensor, times: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"x": list(noisy[:, :, None].unbind()), "t": 1 - times, "cap_feats": self._rows(tensors)}

    def _output(self, sample: Any, noisy: Tensor) -> Tensor:
        return -torch.stack(list(sample))[:, :, 0]

    def _call_arguments(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"prompt_embeds": [row.to(self.runtime.dtype) for row in self._rows(tensors)]}

    def _layout(self, tokens: int, length: int) -> Layout:
        start = -(-tokens // MULTIPLE) * MULTIPLE
        return Layout(slice(0, tokens), slice(start, start + length))
