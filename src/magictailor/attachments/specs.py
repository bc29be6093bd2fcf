"""What a user may ask to join in: frozen dataclasses of paths and numbers, checked and read without any model."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from magictailor.common.errors import InputError, check_choice
from magictailor.data.images import load_grey, load_image

KINDS = ("canny", "depth", "pose", "lines")
LAYERS = ("style", "all")


class AttachmentSpec(ABC):
    """What a user asks to be attached."""

    @abstractmethod
    def check(self) -> None:
        """Raises InputError for what can be refused without a model: a number out of range, an unreadable picture."""


@dataclass(frozen=True)
class FromImage(AttachmentSpec):
    """Start from a picture (img2img), or fill a region of it (inpainting).

    Attributes:
        image: a picture of any size; a square of it is used, the middle or around the region.
        strength: how much may change, above 0 to 1: the share of the denoising steps that are done. None: 0.6, and 1
            inside a region.
        region: a mask of the picture's size, white where it may change. What is black stays as it is.
    """

    image: Path | str
    strength: float | None = None
    region: Path | str | None = None

    def check(self) -> None:
        if self.strength is not None and not 0 < self.strength <= 1:
            raise InputError(f"{self.strength}: out of range", "choose above 0, at most 1", field="strength")
        picture, _ = load_image(Path(self.image))
        if self.region is not None:
            read_region(self.region, picture, self.image)


@dataclass(frozen=True)
class Control(AttachmentSpec):
    """Follow a picture.

    Attributes:
        kind: canny, depth, pose or lines.
        image: the picture, of which the middle square is used; or a ready map.
        ready: ``image`` is a map already; it has the size of the pictures to generate.
        strength: how strongly, 0 to 2.
        start, end: during which part of the denoising, 0 to 1.
        model: the ControlNet: a folder in diffusers format, a .safetensors file, or a hub's name. None: the usual one of
            the family; the embedded base has its own.
    """

    kind: str
    image: Path | str
    ready: bool = False
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    model: str | None = None

    def check(self) -> None:
        check_choice(self.kind, KINDS, "control")
        if not 0 <= self.strength <= 2:
            raise InputError(f"{self.strength}: out of range", "choose 0 .. 2", field="control_strength")
        if not 0 <= self.start < self.end <= 1:
            problem = f"{self.start} to {self.end}: no part of the denoising"
            raise InputError(problem, "choose 0 <= start < end <= 1", field="control_start")
        load_image(Path(self.image))


@dataclass(frozen=True)
class Style(AttachmentSpec):
    """Take the style of a picture.

    Attributes:
        image: the picture.
        strength: how strongly, 0 to 2.
        layers: ``style``: only InstantStyle's layers (U-Nets); ``all``: what is in the picture comes along. None: style,
            but all for the embedded base's own IP-Adapter, which knows nothing but styles.
        model: the IP-Adapter, a .safetensors file or owner/name/file of the hub; None: the family's usual one.
        encoder: its image encoder, a folder or owner/name of the hub; None: the usual one.
    """

    image: Path | str
    strength: float = 1.0
    layers: Literal["style", "all"] | None = None
    model: str | None = None
    encoder: str | None = None

    def check(self) -> None:
        if not 0 <= self.strength <= 2:
            raise InputError(f"{self.strength}: out of range", "choose 0 .. 2", field="style_strength")
        if self.layers not in (None, *LAYERS):
            raise InputError(f"{self.layers}: unknown", f"choose {' or '.join(LAYERS)}", field="style_layers")
        load_image(Path(self.image))


@dataclass(frozen=True)
class CSGO(AttachmentSpec):
    """Restyle the finished picture, in a second pass: CSGO, on SDXL in fp16.

    Attributes:
        image: the picture whose style is taken.
        checkout: the folder of CSGO's own code, with what its README puts there.
        strength: how strongly, 0 to 2.
        model: its weights, a .safetensors file; None: ``CSGO/csgo_4_32.safetensors`` in the checkout.
        encoder: its image encoder, a folder; None: the one in the checkout.
    """

    image: Path | str
    checkout: Path | str
    strength: float = 1.0
    model: str | None = None
    encoder: str | None = None

    def check(self) -> None:
        Style(self.image, self.strength).check()


def read_region(region: Path | str, picture: Image.Image, name: Path | str) -> Image.Image:
    """A region of a picture, grey, white inside.

    Args:
        name: the picture's file, for the error.

    Raises:
        InputError: it cannot be read, has another size than the picture, or nothing white.
    """
    mask = load_grey(region)
    if picture.size != mask.size:
        sizes = f"{mask.size[0]} x {mask.size[1]}, {name} {picture.size[0]} x {picture.size[1]}"
        raise InputError(f"{region} is {sizes}", "make them the same size")
    if mask.point(lambda v: 255 * (v > 127)).getbbox() is None:
        raise InputError(f"{region}: has no white in it", "paint the region white")
    return mask
