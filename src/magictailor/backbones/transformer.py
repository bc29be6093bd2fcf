"""What the flow-matching transformers share: encoded prompts, spans of pseudo-words, maps over image and text."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from diffusers import DiffusionPipeline
from torch import Tensor

from magictailor.backbones.conditions import Condition
from magictailor.backbones.contract import Blocks
from magictailor.backbones.latents import Codec, Scaled
from magictailor.backbones.lora import LoRAKeys, TransformerLoRAKeys
from magictailor.backbones.native_names import Table
from magictailor.backbones.pipeline_backbone import PipelineBackbone
from magictailor.backbones.process import FlowMatching, NoiseProcess
from magictailor.backbones.prompt_cache import PromptCache
from magictailor.backbones.runtime import CPU, Runtime
from magictailor.backbones.words import TextWords, positions
from magictailor.common.errors import InputError
from magictailor.recipe import Kind

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
Parts = Mapping[str, tuple[str, str]]
Names = Mapping[str, str]
Offsets = list[tuple[int, int]]  # where in a text each token begins and ends


class Transformer(PipelineBackbone):
    """A family's class says how its pipeline encodes prompts and what its denoiser reads.

    Attributes:
        condition: names of an encoded prompt's tensors, and of the pipeline's arguments that take them.
        targets: endings of the layers that LoRA adapts, as diffusers' own script for the family has them.
        attention: of a block, by its name in it; ``blocks[0]`` is the list of blocks.
        patch: latents a token, per side.
        default_map_blocks: the first and the last of the blocks whose maps are read by default, as shares of all.
    """

    denoiser_part = "transformer"
    blocks: tuple[str, ...] = ("transformer_blocks.",)
    condition: Names = {"sequence": "prompt_embeds"}
    targets: Sequence[str] = ATTENTION
    sampled_as: Literal["latent", "pt"] = "pt"
    native: Table = {}  # no other tool loads it
    attention = "attn"
    patch = 2
    size_multiple = 1  # of pixels, that its pipeline insists on
    default_map_blocks: tuple[float, float] = (0.45, 0.55)
    _words: Any  # TextWords; a family with small text encoders has ClipWords

    def __init__(self, name: str, pipeline: DiffusionPipeline, runtime: Runtime | None = CPU) -> None:
        """``runtime``: None leaves the networks where they are until `to`."""
        super().__init__(name, pipeline)
        self._words = TextWords()
        self.codec, self.process = self._codec(), self._process()
        self.step = self.codec.factor * self.patch  # pixels a token, per side
        self.size = self._own_size()
        self._prompts = PromptCache(self._encode, self.identity)
        self._released: dict[str, Callable[[], Any]] = {}
        if runtime is not None:
            self.to(runtime)

    # --- what a family says

    def _codec(self) -> Codec:
        return Scaled(self.autoencoder)

    def _process(self) -> NoiseProcess:
        config = self.pipeline.scheduler.config
        dynamic = config.get("use_dynamic_shifting", False)  # it depends on the size then, and its scripts leave it out
        return FlowMatching(self.pipeline.scheduler, shift=1.0 if dynamic else float(config.get("shift", 1.0)))

    def _own_size(self) -> int:
        """The side of its images where no other is asked for, in pixels."""
        return int(self.pipeline.default_sample_size * self.pipeline.vae_scale_factor)

    @abstractmethod
    def _encode(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What the pipeline makes of these texts, [N, ...]; sequences of different lengths have a ``mask``."""

    @abstractmethod
    def _tokens(self, text: str) -> tuple[str, Offsets]:
        """The text as the tokenizer reads it, and for each position of the sequence its part of that text."""

    # --- what it is

    @property
    def config(self) -> Any:
        """The denoiser's."""
        return self.pipeline.transformer.config

    @property
    def noise_schedule(self) -> Mapping[str, Any]:
        return dict(self.pipeline.scheduler.config)

    @property
    def lora_targets(self) -> Sequence[str]:
        return self.targets

    @property
    def lora_keys(self) -> LoRAKeys:
        denoiser: Any = self.denoiser
        return TransformerLoRAKeys(self.native, lambda module: int(denoiser.get_submodule(module).out_features))

    def use_size(self, size: int) -> None:
        step = math.lcm(self.step, self.size_multiple)
        if size % step or size < step:
            raise InputError(
                f"{size}: {self.name} takes multiples of {step} pixels",
                f"choose for instance {max(1, round(size / step)) * step}",
                field="data.size",
            )
        self.size = size

    # --- words and text

    @property
    def trainable(self) -> frozenset[Kind]:
        return frozenset({"lora", "pseudo-words"} if self.trains_words else {"lora"})

    @property
    def trains_words(self) -> bool:
        """Whether its text encoders are small enough for a pseudo-word to be a row of theirs."""
        return False

    def identity(self, text: str) -> str:
        """Of all that encodes a text; empty where that is not known."""
        return self.digest_as_loaded and f"{self.digest_as_loaded} {self.runtime.dtype} {self._tokens(text)}"

    @property
    def text_device(self) -> torch.device:
        """Where prompts are encoded. A preset that saves memory does it on the CPU: once, and a card may be too small."""
        waits = self.runtime.preset.offload and not self.trains_words
        return torch.device("cpu") if waits else self.device

    @contextmanager
    def _with_encoders(self) -> Iterator[None]:
        """Inside, the text encoders are there; those that were released are read again, and go afterwards."""
        released = [part for part, _ in self.encoders.values() if part in self._released]
        for part in released:
            encoder = self._released[part]().requires_grad_(False).eval()
            setattr(self.pipeline, part, encoder.to(self.text_device, self.runtime.dtype))
        try:
            yield
        finally:
            for part in released:
                setattr(self.pipeline, part, None)

    def release_text(self) -> None:
        config = self.pipeline.config
        folder = config.get("_name_or_path")
        if self.trains_words or not folder or not Path(folder).is_dir():
            return
        for part, _ in self.encoders.values():
            if getattr(self.pipeline, part, None) is not None:
                kind = getattr(transformers, config[part][1])
                self._released[part] = partial(kind.from_pretrained, folder, subfolder=part, dtype=self.runtime.dtype)
                setattr(self.pipeline, part, None)

    def pipeline_inputs(self, prompts: Sequence[str], guidance: float) -> dict[str, Any]:
        inputs = self._call_arguments(self.encode_text(prompts).tensors) | {"guidance_scale": guidance}
        if guidance > self.no_guidance and self.negative:
            free = self._call_arguments(self.encode_text([""] * len(prompts)).tensors)
            inputs |= {f"negative_{name}": value for name, value in free.items()}
        return inputs

    def _call_arguments(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Encoded prompts by the names of the pipeline's arguments."""
        return {argument: tensors[name].to(self.runtime.dtype) for name, argument in self.condition.items()}

    def encode_text(self, prompts: Sequence[str], words: Sequence[str] = ()) -> Condition:
        texts = [self._words.written_out(prompt) for prompt in prompts]
        with torch.no_grad():
            tensors = self._prompts.get(texts, self.device, self._with_encoders)
        return Condition(tensors, [self._spans(text, words) for text in texts])

    def _spans(self, text: str, words: Sequence[str]) -> dict[str, list[int]]:
        read, offsets = self._tokens(text)
        return {word: positions(read, self._words.texts[word], offsets) for word in words}

    def pixels_of(self, sampled: Tensor) -> Tensor:
        return sampled.float() * 2 - 1

    # --- attention

    def attention_layers(self, blocks: Blocks) -> list[str]:
        """Of the blocks by number; ``up``: of the second half; ``all``: those that tell where words are, see docs/models.md."""
        listed = self.blocks[0]
        count = len(self.denoiser.get_submodule(listed.rstrip(".")))  # type: ignore[arg-type]
        first, last = self.default_map_blocks if blocks == "all" else (0.5, 1.0)
        chosen = (
            blocks
            if isinstance(blocks, tuple)
            else range(int(first * count), max(int(first * count) + 1, round(last * count)))
        )
        if unknown := [n for n in chosen if not 0 <= n < count]:
            raise InputError(
                f"{unknown[0]}: {self.name} has blocks 0 to {count - 1}", "choose among them", field="attention.blocks"
            )
        return [f"{listed}{number}.{self.attention}" for number in chosen]

    @property
    def _latents_per_map(self) -> int:
        return self.patch
