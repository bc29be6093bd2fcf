"""What a backbone is: everything that depends on the model's family, and nothing of any method.

Epsilon, v or flow, latent scale and packing, map sizes and text encoders never leave the backbone.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from magictailor.backbones.community_lora import CommunityLoRA
from magictailor.backbones.placement import Placement

# A pseudo-word's vectors: text encoder's name -> [n, dim].
WordVectors = dict[str, Tensor]
SOME = 8  # numbers of each weight
Part = Literal["text", "vae"]  # what a preset may keep off the card


@dataclass(frozen=True)
class Defaults:
    """What a recipe takes from the base: steps and rates of the two stages, rank, guidance, sampling steps.

    ``word_rate``: the pseudo-words' rate, times a stage's. ``rate_factors``: of the compared methods' published rates.
    """

    steps: tuple[int, int]
    lr: tuple[float, float]
    rank: int
    guidance: float
    sampling_steps: int
    word_rate: float = 1.0
    rate_factors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Condition:
    """A text condition of N prompts.

    sequence: what cross-attention reads, [N, L, D]. pooled: [N, P] or None. extras: further inputs by name
    (SDXL's sizes). positions: for each prompt, each pseudo-word's places, by encoder: the token positions that
    the attention loss reads.
    """

    sequence: Tensor
    pooled: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    positions: Sequence[Mapping[str, Mapping[str, Sequence[int]]]] = ()

    def detach(self) -> "Condition":
        pooled = None if self.pooled is None else self.pooled.detach()
        extras = {k: v.detach() for k, v in self.extras.items()}
        return Condition(self.sequence.detach(), pooled, extras, self.positions)

    def leaf(self) -> "Condition":
        """The same values, cut from the encoders: what micro-batches read, and where their gradients gather."""
        cut = self.detach()
        for tensor in cut._encoded():
            tensor.requires_grad_()
        return cut

    def backward(self, leaf: "Condition") -> None:
        """Hand the gradients that gathered in ``leaf`` on to the encoders and the pseudo-words."""
        pairs = [
            (ours, its.grad)
            for ours, its in zip(self._encoded(), leaf._encoded(), strict=True)
            if ours.requires_grad and its.grad is not None
        ]
        if pairs:
            torch.autograd.backward([ours for ours, _ in pairs], [grad for _, grad in pairs])

    def _encoded(self) -> list[Tensor]:
        return [self.sequence] if self.pooled is None else [self.sequence, self.pooled]

    def pick(self, rows: Sequence[int]) -> "Condition":
        """The condition of these prompts, in this order (a prompt may be taken more than once)."""
        index = list(rows)
        pooled = None if self.pooled is None else self.pooled[index]
        extras = {k: v[index] for k, v in self.extras.items()}
        return Condition(self.sequence[index], pooled, extras, [self.positions[i] for i in index])


class Backbone(ABC):
    """A loaded model behind one contract. ``size``: the side of its training images, in pixels."""

    name: str
    size: int
    factor: int  # pixels a latent
    map_side: int  # of the square attention maps that the attention loss reads
    defaults: Defaults
    pipeline: DiffusionPipeline
    loras: tuple[CommunityLoRA, ...] = ()  # merged into its weights
    place: Placement  # where it runs, and how precise
    mixed: bool = False  # weights are kept in full and computed with in half
    assumed: str = ""  # about a file that does not say it, for the user to check

    @property
    @abstractmethod
    def family(self) -> str:
        """embedded, sd1, sd2, sd2-v (v prediction) or sdxl."""

    @property
    @abstractmethod
    def denoiser(self) -> nn.Module:
        """The network that LoRA adapts."""

    @property
    @abstractmethod
    def text_encoders(self) -> Mapping[str, nn.Module]:
        """Text encoders by name."""

    @property
    @abstractmethod
    def networks(self) -> Mapping[str, nn.Module]:
        """All networks of the pipeline by their folder in diffusers format: unet, vae, text_encoder, ..."""

    @property
    @abstractmethod
    def tokenizers(self) -> Mapping[str, Any]:
        """The tokenizer of each text encoder, by the encoder's name."""

    @property
    @abstractmethod
    def noise_schedule(self) -> Mapping[str, Any]:
        """The configuration of the noise schedule that the base was trained with, as diffusers writes it."""

    @property
    @abstractmethod
    def layers_per_block(self) -> int:
        """Of the U-Net: LoRA names of other tools count layers by it."""

    @property
    @abstractmethod
    def lora_targets(self) -> Sequence[str]:
        """Endings of the names of the layers that LoRA adapts."""

    @abstractmethod
    def attention_layers(self, up_alone: bool = False) -> Sequence[str]:
        """Names of the cross-attention layers that the attention loss reads, all with maps of one size."""

    @property
    @abstractmethod
    def device(self) -> torch.device: ...

    def digest(self) -> str:
        """Tells what this base draws from what another of its name does: the noise schedule, and some of each weight.
        What is added for training does not count."""
        pipeline: Any = self.pipeline
        schedule = {k: v for k, v in pipeline.scheduler.config.items() if not k.startswith("_")}
        found = sha256(json.dumps(schedule, sort_keys=True, default=str).encode())
        for network in (self.denoiser, pipeline.vae, *self.text_encoders.values()):
            for name, weight in network.named_parameters():
                if "lora_" not in name:
                    some = weight.detach().flatten()[:SOME].float().cpu().contiguous()
                    found.update(some.numpy().tobytes())
        return found.hexdigest()[:16]

    @abstractmethod
    def add_words(self, labels: Mapping[str, str]) -> dict[str, WordVectors]:
        """Make room for pseudo-words ``{word: text}``; returns the mean embedding of each text as their start."""

    @abstractmethod
    def set_words(self, vectors: Mapping[str, WordVectors]) -> None:
        """Write the vectors of pseudo-words that were added before."""

    @abstractmethod
    def encode_text(self, prompts: Sequence[str], words: Sequence[str] = ()) -> Condition:
        """The condition of the prompts, differentiable to the pseudo-words' rows."""

    @abstractmethod
    def encode_images(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Pixels [N, 3, H, W] in [-1, 1] to scaled latents; ``noise`` of the latents' shape samples the posterior."""

    @abstractmethod
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Scaled latents to pixels in [-1, 1]."""

    @abstractmethod
    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """The latents' shape for one image of this many pixels."""

    @abstractmethod
    def timesteps(self, uniform: Tensor) -> Tensor:
        """Training timesteps from uniform numbers in [0, 1), [N]."""

    @abstractmethod
    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor: ...

    @abstractmethod
    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What `predict` should return: the noise, the velocity or the flow."""

    @abstractmethod
    def predict(
        self, noisy: Tensor, timesteps: Tensor, condition: Condition, weights: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The denoiser's output; ``weights`` stand in for its parameters of those names, for this call."""

    @abstractmethod
    def put(self, place: Placement) -> None:
        """Move the networks where they run, in the precision that they run in; what may wait elsewhere does."""

    @abstractmethod
    def present(self, *parts: Part) -> AbstractContextManager[None]:
        """Inside, these are where it runs, even if they wait elsewhere. What goes back through an encoder has to be inside."""

    @abstractmethod
    def drawing(self) -> AbstractContextManager[None]:
        """Inside, all of the pipeline is where it runs, and decodes as its preset says."""

    @abstractmethod
    def decode_in_tiles(self) -> None:
        """From here on, pictures are decoded in tiles of half their side: less memory at once, nearly the same picture."""

    @abstractmethod
    def compile(self) -> None:
        """Compile the denoiser's repeated blocks; after all that is added to it."""

    @abstractmethod
    def enable_checkpointing(self) -> None:
        """Recompute activations in the backward pass."""
