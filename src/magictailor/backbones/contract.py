"""What a backbone is: everything that depends on the model's family, and nothing that depends on a method.

Prediction type, latent scale and packing, attention layers, text encoders and their sequences never leave a backbone.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from typing import Any, Literal

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from magictailor.backbones.community_lora import CommunityLoRA
from magictailor.backbones.conditions import Condition, Prediction
from magictailor.backbones.lora import LoRAKeys
from magictailor.backbones.process import Schedulers
from magictailor.backbones.runtime import Runtime
from magictailor.recipe import Kind

# A pseudo-word's embeddings: text encoder's name -> [n, dim].
WordVectors = dict[str, Tensor]
# Whose attention is read: the family's own choice of layers, those in the denoiser's second half, or blocks by number.
Blocks = Literal["all", "up"] | tuple[int, ...]
Keys = Literal["all", "text"]  # over which attention's softmax is taken for a map
Component = Literal["text", "vae"]  # what a preset may keep off the card
DIGEST_NUMBERS = 8  # of each weight


def weights_digest(networks: Iterable[nn.Module], text: str = "") -> str:
    """Identifies networks by the first numbers of each weight, and a text; added LoRA does not count."""
    found = sha256(text.encode())
    for network in networks:
        for name, weight in network.named_parameters():
            if "lora_" not in name:
                first = weight.detach().flatten()[:DIGEST_NUMBERS].float().cpu().contiguous()
                found.update(first.numpy().tobytes())
    return found.hexdigest()[:16]


class Backbone(ABC):
    """A loaded model behind one contract."""

    name: str
    size: int  # the side of its training images, pixels
    denoiser_part: str  # the denoiser's folder in diffusers format, and the prefix of its LoRA's names
    pipeline: DiffusionPipeline  # of diffusers; nothing outside this folder touches its parts
    runtime: Runtime  # where it runs, and how precise
    loras: tuple[CommunityLoRA, ...] = ()  # merged into its weights
    digest_as_loaded: str = ""  # before anything was merged, moved or quantized
    takes_references: bool = False  # its pipeline's call takes a list of images to refer to
    autocast: bool = False  # weights are kept in float32 and computed with in the runtime's precision
    sampled_as: Literal["latent", "pt"]  # what is asked of the pipeline's call: latents, or decoded pixels
    assumption: str = ""  # about a file that does not say it, for the user to check

    # --- what it is

    @property
    @abstractmethod
    def family(self) -> str:
        """embedded, sd1, sd2, sd2-v (v prediction), sdxl, sd3, flux, flux2-klein-4b, z-image, ... as docs/models.md lists."""

    @property
    @abstractmethod
    def denoiser(self) -> nn.Module:
        """The network that LoRA adapts."""

    @property
    @abstractmethod
    def text_encoders(self) -> Mapping[str, nn.Module]:
        """Text encoders by the names that tools give their embeddings."""

    @property
    @abstractmethod
    def tokenizers(self) -> Mapping[str, Any]:
        """The tokenizer of each text encoder, by the encoder's name."""

    @property
    @abstractmethod
    def autoencoder(self) -> nn.Module: ...

    @property
    @abstractmethod
    def networks(self) -> Mapping[str, nn.Module]:
        """All networks of the pipeline by their folder in diffusers format: unet, vae, text_encoder, ..."""

    @property
    @abstractmethod
    def noise_schedule(self) -> Mapping[str, Any]:
        """The configuration of the noise schedule that the base was trained with, as diffusers writes it."""

    @property
    @abstractmethod
    def lora_keys(self) -> LoRAKeys:
        """The names that tools give the layers of its LoRA."""

    @property
    @abstractmethod
    def lora_targets(self) -> Sequence[str]:
        """Endings of the names of the layers that LoRA adapts."""

    @property
    @abstractmethod
    def device(self) -> torch.device: ...

    @property
    @abstractmethod
    def schedulers(self) -> Schedulers:
        """The schedulers that generate with it, by our name; the first is its own."""

    @property
    def settings(self) -> Sequence[str]:
        """Settings of a recipe that this checkpoint asks for, ``key=value``: a distilled one generates in few steps."""
        return ()

    def digest(self) -> str:
        """Identifies the base by its noise schedule and the first numbers of each weight; added LoRA does not count."""
        schedule = {k: v for k, v in self.noise_schedule.items() if not k.startswith("_")}
        networks = (self.denoiser, self.autoencoder, *self.text_encoders.values())
        return weights_digest(networks, json.dumps(schedule, sort_keys=True, default=str))

    # --- words and text

    @abstractmethod
    def add_words(self, texts: Mapping[str, str]) -> dict[str, WordVectors]:
        """Make room for pseudo-words ``{word: text}``; returns the mean embedding of each text, where they start."""

    @abstractmethod
    def set_words(self, vectors: Mapping[str, WordVectors]) -> None:
        """Write the embeddings of pseudo-words that were added before."""

    @abstractmethod
    def encode_text(self, prompts: Sequence[str], words: Sequence[str] = ()) -> Condition:
        """The condition of the prompts, differentiable to the pseudo-words' rows, with the spans of ``words``."""

    @property
    @abstractmethod
    def trainable(self) -> frozenset[Kind]:
        """The kinds of trainables that it has. Without pseudo-words, those stand for other text, and nothing of it changes."""

    @abstractmethod
    def release_text(self) -> None:
        """All prompts of a run have been encoded: the text encoders may leave memory until another one needs them."""

    # --- images

    @abstractmethod
    def use_size(self, size: int) -> None:
        """Train and generate images of this side, in pixels.

        Raises:
            InputError: a size that the model does not take.
        """

    @abstractmethod
    def pipeline_inputs(self, prompts: Sequence[str], guidance: float) -> dict[str, Any]:
        """Those arguments of the pipeline's call whose names depend on the family: prompts and guidance."""

    @abstractmethod
    def check_emphasis(self, guidance: float) -> None:
        """Raises InputError if components cannot be emphasised."""

    @abstractmethod
    def emphasizing(self, without: Sequence[str], strength: float) -> AbstractContextManager[None]:
        """Inside, the pipeline's guidance leads away from ``without``, one prompt for each of a call's, in the part of
        each image where it makes the largest difference, and towards it in the rest. ``strength``: 0 for none; 1 for
        that prompt in the empty one's place in that part, and in the prompt's own place in the rest. An empty text
        changes nothing.
        """

    @abstractmethod
    def guidance_inputs(self, guidance: float) -> dict[str, Any]:
        """Those of them that say how strong the guidance is, as a user of the pipeline writes them."""

    @abstractmethod
    def pixels_of(self, sampled: Tensor) -> Tensor:
        """What the pipeline's call gives with ``output_type`` `sampled_as`, as pixels in [-1, 1]."""

    # --- latents

    @abstractmethod
    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """The latents' shape for one image of this many pixels, [C, h, w]."""

    @abstractmethod
    def encode_images(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Pixels [N, 3, H, W] in [-1, 1] to scaled latents [N, C, h, w]; ``noise``, of that shape, samples the posterior."""

    @abstractmethod
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Scaled latents [N, C, h, w] to pixels [N, 3, H, W], float32; an image's are in [-1, 1], and nothing is clamped."""

    # --- the diffusion process

    @abstractmethod
    def times(self, uniform: Tensor) -> Tensor:
        """Training times from uniform numbers in [0, 1), [N]; integers or real numbers, as the family has them."""

    @abstractmethod
    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Latents and noise [N, C, h, w], mixed as the process does it at these times [N]: the denoiser's input."""

    @abstractmethod
    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What `predict` should return for `add_noise` of the same: the noise, the velocity or the flow, [N, C, h, w]."""

    @abstractmethod
    def noise_level(self, times: Tensor) -> Tensor:
        """How far times [N] are on the way from the image (0) to noise (1), [N]."""

    @abstractmethod
    def predict(
        self,
        noisy: Tensor,
        times: Tensor,
        condition: Condition,
        *,
        attend: Sequence[Sequence[str]] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """The denoiser's prediction for N latents.

        Args:
            noisy: [N, C, h, w], see `add_noise`.
            times: [N].
            attend: for each latent, the pseudo-words whose attention maps are returned, averaged over heads and the
                layers of `reading_attention`, inside which the call has to be; a row with fewer words than another has
                zeros. None: no maps, and fused attention everywhere.
            weights: take the place of the denoiser's parameters of these names, in this call.
        """

    @abstractmethod
    def map_grid(self, blocks: Blocks) -> tuple[int, int]:
        """Height and width of the attention maps at the training size."""

    @abstractmethod
    def reading_attention(self, blocks: Blocks, over: Keys = "all") -> AbstractContextManager[None]:
        """Inside, `predict` can return attention maps; afterwards every layer is as it was.

        Raises:
            InputError: the base has no such attention to read.
        """

    # --- where it runs

    @abstractmethod
    def to(self, runtime: Runtime) -> None:
        """Move the networks to their device and precision; an offloading preset keeps some on the CPU."""

    @abstractmethod
    def on_device(self, *components: Component) -> AbstractContextManager[None]:
        """Inside, these are on the device even if the preset offloads them; so must be what gradients go back through."""

    @abstractmethod
    def inference_mode(self) -> AbstractContextManager[None]:
        """Inside, the whole pipeline is on the device and generates as the preset says; no attention is read."""

    @abstractmethod
    def as_pipeline(self) -> DiffusionPipeline:
        """The pipeline ready to be called by itself: one precision, with diffusers' own offloading and tiling."""

    @abstractmethod
    def compile(self) -> None:
        """Compile the denoiser's repeated blocks; after all that is added to it."""

    @abstractmethod
    def enable_checkpointing(self) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
