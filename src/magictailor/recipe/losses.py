"""What happens outside the mask, and the losses' terms."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from magictailor.recipe.part import Part, fields_of

# --- what happens outside the mask


class DMDeg(Part):
    """Dynamic Masked Degradation, equations 4 and 5, and its ablations by schedule."""

    kind: Literal["dm-deg"] = "dm-deg"
    schedule: Literal["dynamic", "fixed", "ascending", "descending"] = "dynamic"
    alpha: float = Field(0.5, ge=0)
    gamma: float = Field(32.0, gt=0)
    clamp: bool = False  # the reference clamps pixels to [-1, 1] afterwards: its defect 6


class MaskOut(Part):
    """Grey outside the mask."""

    kind: Literal["mask-out"] = "mask-out"


class Untouched(Part):
    """The images as they are."""

    kind: Literal["none"] = "none"


Degradation = Annotated[DMDeg | MaskOut | Untouched, Field(discriminator="kind")]


class ContextMask(Part):
    """What lies outside the mask counts a little (CLiC).

    blend: a + (1 - a) M, by its paper; floor: what is below 0.05 becomes a, by its code.
    """

    kind: Literal["blend", "floor"] = "blend"
    value: float = Field(0.5, ge=0, le=1)


# --- the losses


class CrossAttention(Part):
    """Equation 2. ``weight`` holds at full mask area; it is divided by the pair's mean area under mask means.

    ``blocks``: both ways through the U-Net, or the way up alone; ``normalised``: by the map's maximum.
    """

    weight: float = Field(1e-2, ge=0)
    blocks: Literal["both", "up"] = "both"
    normalised: bool = True


class Preserve(Part):
    """Equation 7. ``regulariser``: what the samples that are not the worst are held to.

    momentum: average of the online network with ``decay``; frozen: as it was after the warm-up;
    last-step: as it was one step ago.
    """

    weight: float = Field(0.2, ge=0)
    regulariser: Literal["momentum", "frozen", "last-step"] = "momentum"
    decay: float = Field(0.99, ge=0, lt=1)


class RegionOfInterest(Part):
    """CLiC's l_RoI: the masked picture alone, under a prompt of the pseudo-word alone.

    ``masked``: the noisy latents are masked and all places count (its paper), or the pixels are, before they are
    encoded, and the mask's places count (its code).
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


class Prior(Part):
    """Prior preservation (Ruiz 2023): pictures that the base draws before, as many in a step as the pair has in it.

    ``prompt``: {} is a sample's label; without it, one set of pictures serves all. ``images`` of each prompt, drawn
    by ancestral sampling (DDIM with ``eta``); ``guidance``: the recipe's, unless given.
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
