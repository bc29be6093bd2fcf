"""Degradation outside the mask, and the terms of the loss."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from magictailor.recipe.config import ConfigModel, fields_of

# --- outside the mask


class DMDeg(ConfigModel):
    """Dynamic Masked Degradation, equations 4 and 5; ``schedule`` has the paper's ablations.

    ``space``: what the noise is added to. pixels: the image, as in the paper; the autoencoder carries some of it into
    the mask. latents: the encoded image, where none gets there (docs/experiments/latent-noise.md).
    """

    kind: Literal["dm-deg"] = "dm-deg"
    schedule: Literal["dynamic", "fixed", "ascending", "descending"] = "dynamic"
    alpha: float = Field(0.5, ge=0)
    gamma: float = Field(32.0, gt=0)
    space: Literal["pixels", "latents"] = "pixels"


class MaskOut(ConfigModel):
    """Grey outside the mask."""

    kind: Literal["mask-out"] = "mask-out"


class NoDegradation(ConfigModel):
    """The images as they are."""

    kind: Literal["none"] = "none"


Degradation = Annotated[DMDeg | MaskOut | NoDegradation, Field(discriminator="kind")]


# --- the terms of the loss


class ContextMask(ConfigModel):
    """CLiC: what lies outside the mask has a small weight in the diffusion loss.

    blend: a + (1 - a) M, by its paper; floor: a wherever M is below 0.05, by its code.
    """

    kind: Literal["blend", "floor"] = "blend"
    value: float = Field(0.5, ge=0, le=1)


class CrossAttention(ConfigModel):
    """Equation 2. ``weight`` holds for a mask of the whole image; with ``loss.masked="mask"`` it is divided by the mean area.

    ``blocks``: all: the layers that tell where words are, by the family; up: those of the denoiser's second half; or a
    transformer's blocks by their numbers. ``over``: a map's softmax runs over all keys, or in joint attention over those
    of the text only. ``noise``: only images whose noise level lies between these, 0 the image and 1 noise.
    ``normalised``: divide each map by its maximum.
    """

    weight: float = Field(1e-2, ge=0)
    blocks: Literal["all", "up"] | tuple[int, ...] = "all"
    over: Literal["all", "text"] = "all"
    noise: tuple[float, float] = (0.0, 1.0)
    normalised: bool = True

    @field_validator("blocks")
    @classmethod
    def _some_blocks(cls, blocks: str | tuple[int, ...]) -> str | tuple[int, ...]:
        if not blocks:
            raise ValueError("name at least one block")
        return blocks

    @field_validator("noise")
    @classmethod
    def _ordered(cls, noise: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= noise[0] < noise[1] <= 1:
            raise ValueError("write two numbers, 0 <= low < high <= 1")
        return noise


class Preserve(ConfigModel):
    """Equation 7: samples other than the worst keep the predictions of a second network.

    ``regulariser``: which network. momentum: the moving average of the online network with ``decay``; frozen: the
    online network at the end of the warm-up; last-step: the online network one step ago.
    """

    weight: float = Field(0.2, ge=0)
    regulariser: Literal["momentum", "frozen", "last-step"] = "momentum"
    decay: float = Field(0.99, ge=0, lt=1)


class RegionOfInterest(ConfigModel):
    """CLiC's l_RoI: the diffusion loss of the masked image under a prompt with nothing but the pseudo-word.

    ``masked``: latents: the noisy latents are masked, and the loss is over all of them (its paper); pixels: the image
    is masked before it is encoded, and the loss is over the mask (its code).
    """

    weight: float = Field(0.5, ge=0)
    prompt: str = "a photo of {}"
    masked: Literal["latents", "pixels"] = "latents"

    @field_validator("prompt")
    @classmethod
    def _holds_the_word(cls, prompt: str) -> str:
        if fields_of(prompt) != [""]:
            raise ValueError("write {} once, where the pseudo-word goes, and nothing else in braces")
        return prompt


class Prior(ConfigModel):
    """Prior preservation (Ruiz 2023) with images that the untrained base generates; half of each step's images.

    ``prompt``: ``{}`` is a sample's label; without it, all samples share one set. ``images``: per prompt, generated with
    DDIM and ``eta`` (1: ancestral sampling); ``guidance``: None takes the recipe's.
    """

    weight: float = Field(1.0, ge=0)
    images: int = Field(200, ge=1, le=100_000)
    prompt: str = "a photo of a {}"
    guidance: float | None = Field(None, ge=0, le=100)
    eta: float = Field(1.0, ge=0, le=1)

    @field_validator("prompt")
    @classmethod
    def _holds_the_label_at_most(cls, prompt: str) -> str:
        if fields_of(prompt) not in ([], [""]):
            raise ValueError("write {} once, where the label goes, or not at all")
        return prompt


class Loss(ConfigModel):
    """How images and times weigh in the loss, whatever the phase."""

    masked: Literal["mask", "whole", "off"] = Field(
        "mask", description="mean over the mask, over the whole tensor, or without mask"
    )
    context_mask: ContextMask | None = None
    prior: Prior | None = None
    stratified_times: bool = Field(
        False, description="one time from each of N equal parts of [0, 1), N the images of a step"
    )
    matched_times: bool = Field(
        False, description="the n-th images of all samples share a time, so that DS-Bal does not compare times"
    )
