"""SDXL: two text encoders whose outputs are joined, a pooled vector, and the image's sizes as a condition."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from magictailor.backbones.conditions import Condition
from magictailor.backbones.stable_diffusion import StableDiffusion
from magictailor.common.tensors import to_device

LEGACY_END = 2  # the end of a text in old configurations: transformers then pools at the highest token number


class StableDiffusionXL(StableDiffusion):
    """Wraps a `StableDiffusionXLPipeline`; encoders by the names that tools give their embeddings."""

    encoders: Mapping[str, tuple[str, str]] = {
        "clip_l": ("text_encoder", "tokenizer"),
        "clip_g": ("text_encoder_2", "tokenizer_2"),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        inner = self.pipeline.text_encoder_2.text_model
        if inner.eos_token_id == LEGACY_END:  # a pseudo-word has the highest number of all: it would be pooled instead
            end = self.tokenizers["clip_g"].eos_token_id
            inner.eos_token_id = self.pipeline.text_encoder_2.config.eos_token_id = end

    @property
    def family(self) -> str:
        return "sdxl"

    def encode_text(self, prompts: Sequence[str], words: Sequence[str] = ()) -> Condition:
        """The last layer but one of each encoder, joined; pooled only by the second; sizes as if nothing were cropped.

        A word has the same span in both encoders: their tokenizers are alike.
        """
        ids = {name: self._words.token_ids(name, prompts) for name in self.encoders}
        encoders = self.text_encoders
        with self.on_device("text"), self._autocast():
            outputs: list[Any] = [
                encoders[n](to_device(ids[n], self.device), output_hidden_states=True) for n in encoders
            ]
        pooled = outputs[-1].text_embeds
        sizes = torch.tensor([[self.size, self.size, 0, 0, self.size, self.size]], device=self.device)
        tensors = {
            "sequence": torch.cat([out.hidden_states[-2] for out in outputs], -1),
            "text_embeds": pooled,
            "time_ids": sizes.to(pooled.dtype).repeat(len(prompts), 1),
        }
        return Condition(tensors, self._words.spans("clip_l", ids["clip_l"], words))

    def _text_inputs(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        added = {name: tensors[name] for name in ("text_embeds", "time_ids")}
        return {**super()._text_inputs(tensors), "added_cond_kwargs": added}
