"""Stable Diffusion 3 and 3.5: two CLIP encoders and T5, whose tokens follow each other in one sequence."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from magictailor.backbones.attention import Layout
from magictailor.backbones.conditions import Condition
from magictailor.backbones.families import sd3_family
from magictailor.backbones.native_names import SD3
from magictailor.backbones.process import FlowMatching, NoiseProcess
from magictailor.backbones.transformer import ATTENTION, Names, Offsets, Parts, Transformer
from magictailor.backbones.words import ClipWords

T5_LENGTH = 256  # the pipeline's own


class StableDiffusion3(Transformer):
    """Wraps a `StableDiffusion3Pipeline`. Without T5, pseudo-words are rows of both CLIP encoders, as in SDXL."""

    encoders: Parts = {
        "clip_l": ("text_encoder", "tokenizer"),
        "clip_g": ("text_encoder_2", "tokenizer_2"),
        "t5": ("text_encoder_3", "tokenizer_3"),
    }
    condition: Names = {"sequence": "prompt_embeds", "pooled": "pooled_prompt_embeds"}
    targets = (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    native = SD3
    emphasizes = True
    default_map_blocks = (0.375, 0.375)  # block 9 of 24: Seg4Diff finds the most in it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.trains_words:
            self._words = ClipWords(self.name, self.text_encoders, self.tokenizers)

    def _missing(self) -> list[str]:
        missing = super()._missing()
        without_t5 = missing == ["text_encoder_3", "tokenizer_3"]
        if without_t5:
            self.encoders = {k: v for k, v in self.encoders.items() if k != "t5"}
        return [] if without_t5 else missing

    def _process(self) -> NoiseProcess:
        return FlowMatching(self.pipeline.scheduler, "logit-normal", float(self.pipeline.scheduler.config.shift))

    def _own_size(self) -> int:
        return int(self.config.sample_size * self.codec.factor)

    @property
    def family(self) -> str:
        return sd3_family(self.pipeline.text_encoder.config.vocab_size if self.trains_words else None)

    @property
    def _t5_length(self) -> int:
        """The embedded base was trained with as many zeros in T5's place as CLIP has tokens."""
        return int(self.pipeline.tokenizer_max_length) if self.family == "embedded-dit" else T5_LENGTH

    def guidance_inputs(self, guidance: float) -> dict[str, Any]:
        length = {"max_sequence_length": self._t5_length} if self.family == "embedded-dit" else {}
        return super().guidance_inputs(guidance) | length

    @property
    def trains_words(self) -> bool:
        return "t5" not in self.encoders

    def encode_text(self, prompts: Sequence[str], words: Sequence[str] = ()) -> Condition:
        if not self.trains_words:
            return super().encode_text(prompts, words)
        with self.on_device("text"), self._autocast():
            tensors = self._encode(list(prompts))
        return Condition(tensors, self._words.spans("clip_l", self._words.token_ids("clip_l", prompts), words))

    def _encode(self, texts: Sequence[str]) -> dict[str, Tensor]:
        sequence, _, pooled, _ = self.pipeline.encode_prompt(
            list(texts),
            None,
            None,
            device=self.text_device,
            do_classifier_free_guidance=False,
            max_sequence_length=self._t5_length,
        )
        return {"sequence": sequence, "pooled": pooled}

    def _tokens(self, text: str) -> tuple[str, Offsets]:
        clip, t5 = (
            (self.pipeline.tokenizer, self.pipeline.tokenizer_max_length),
            (self.pipeline.tokenizer_3, self._t5_length),
        )
        found: Offsets = []
        for tokenizer, length in (clip, t5):
            found += tokenizer(
                text, padding="max_length", max_length=length, truncation=True, return_offsets_mapping=True
            ).offset_mapping
        return text, found

    def _inputs(self, noisy: Tensor, times: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"hidden_states": noisy, "timestep": times * 1000, **self._text_inputs(tensors)}

    def _text_inputs(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"encoder_hidden_states": tensors["sequence"], "pooled_projections": tensors["pooled"]}

    def _layout(self, tokens: int, length: int) -> Layout:
        return Layout(slice(0, tokens), slice(tokens, tokens + length))
