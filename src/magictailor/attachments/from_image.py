"""Pictures into pictures: a picture that generation starts from, and a region that alone may change."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from magictailor.attachments.contract import Attachment, Request, Role
from magictailor.backbones import Backbone
from magictailor.backbones.sampling import to_images
from magictailor.common.errors import InputError
from magictailor.common.files import digest
from magictailor.data.images import load_grey, load_image
from magictailor.data.training_images import square, unmasked_image

STRENGTH, STRENGTH_INSIDE = 0.6, 1.0  # without a region, and with one
UNET_CHANNELS = 4  # of a U-Net that inpaints without being made for it, as diffusers recognises it


@dataclass(frozen=True)
class FromImage(Request):
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

    def load(self, backbone: Backbone) -> Attachment:
        strength = self.strength if self.strength is not None else STRENGTH if self.region is None else STRENGTH_INSIDE
        if not 0 < strength <= 1:
            raise InputError(f"{strength}: out of range", "choose above 0, at most 1", field="strength")
        picture, _ = load_image(Path(self.image))
        if self.region is None:
            whole = unmasked_image(picture, backbone.size)
            return LoadedImage(self, strength, to_images(whole.pixels[None])[0], None)
        mask = read_region(self.region, picture, self.image)
        pixels, inside = square(picture, mask, backbone.size)
        (shown,) = to_images(pixels[None])
        (region,) = to_images(inside[None].expand(-1, 3, -1, -1) * 2 - 1)
        return LoadedImage(self, strength, shown, region.convert("L"))


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
        raise InputError(f"{region} is {sizes}", "make them one size")
    if mask.point(lambda v: 255 * (v > 127)).getbbox() is None:
        raise InputError(f"{region}: has no white in it", "paint the region white")
    return mask


class LoadedImage(Attachment):
    """A square ``picture`` of the model's size, and the ``region`` of it that may change, grey."""

    name = "image"

    def __init__(self, request: FromImage, strength: float, picture: Image.Image, region: Image.Image | None) -> None:
        self.request, self.strength, self.picture, self.region = request, strength, picture, region
        self._channels: int | None = None

    @property
    def roles(self) -> frozenset[Role]:
        return frozenset({"image"} if self.region is None else {"image", "region"})

    def record(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {"file": Path(self.request.image).name, "sha256": digest(Path(self.request.image))}
        if self.request.region is not None:
            found["region sha256"] = digest(Path(self.request.region))
        return {**found, "strength": self.strength}

    def inputs(self, count: int) -> dict[str, Any]:
        inputs: dict[str, Any] = {"image": [self.picture] * count, "strength": self.strength}
        if self._inpaints:
            whole = Image.new("L", self.picture.size, 255)
            inputs["mask_image"] = [self.region or whole] * count
        return inputs

    def attach(self, pipeline: Any) -> None:
        self._inpaints = "Inpaint" in type(pipeline).__name__
        unet = getattr(pipeline, "unet", None)
        if self._inpaints and unet is not None and unet.config.in_channels == pipeline.vae.config.latent_channels:
            # diffusers tells by the number 4 that a U-Net reads latents alone; the embedded base has 16.
            self._channels = unet.config.in_channels
            unet.register_to_config(in_channels=UNET_CHANNELS)

    def detach(self, pipeline: Any) -> None:
        if self._channels is not None:
            pipeline.unet.register_to_config(in_channels=self._channels)
            self._channels = None

    def finish(self, picture: Image.Image) -> Image.Image:
        """Outside the region, the picture's own pixels: the autoencoder must not change them."""
        return picture if self.region is None else Image.composite(picture, self.picture, self.region)
