"""Pictures into pictures: a picture that generation starts from, and a region, the only part that may change."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from magictailor.attachments.contract import Attachment, Role
from magictailor.attachments.specs import FromImage, read_region
from magictailor.backbones import Backbone
from magictailor.backbones.sampling import to_images
from magictailor.common.files import digest
from magictailor.data.images import load_image
from magictailor.data.training_images import square, unmasked_image

STRENGTH, STRENGTH_INSIDE = 0.6, 1.0  # without a region, and with one
UNET_CHANNELS = 4  # of a U-Net that inpaints without being made for it, as diffusers recognises it


def load(spec: FromImage, backbone: Backbone) -> Attachment:
    """See `magictailor.attachments.loading.load_attachment`."""
    usual = STRENGTH if spec.region is None else STRENGTH_INSIDE
    strength = usual if spec.strength is None else spec.strength
    picture, _ = load_image(Path(spec.image))
    if spec.region is None:
        whole = unmasked_image(picture, backbone.size)
        return LoadedImage(spec, strength, to_images(whole.pixels[None])[0], None)
    mask = read_region(spec.region, picture, spec.image)
    pixels, inside = square(picture, mask, backbone.size)
    (shown,) = to_images(pixels[None])
    (region,) = to_images(inside[None].expand(-1, 3, -1, -1) * 2 - 1)
    return LoadedImage(spec, strength, shown, region.convert("L"))


class LoadedImage(Attachment):
    """A square ``picture`` of the model's size, and the ``region`` of it that may change, grey."""

    name = "image"

    def __init__(self, spec: FromImage, strength: float, picture: Image.Image, region: Image.Image | None) -> None:
        self.spec, self.strength, self.picture, self.region = spec, strength, picture, region
        self._channels: int | None = None

    @property
    def roles(self) -> frozenset[Role]:
        return frozenset({"image"} if self.region is None else {"image", "region"})

    def record(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {"file": Path(self.spec.image).name, "sha256": digest(Path(self.spec.image))}
        if self.spec.region is not None:
            found["region sha256"] = digest(Path(self.spec.region))
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
            # diffusers tells by the number 4 that a U-Net reads only latents; the embedded base has 16.
            self._channels = unet.config.in_channels
            unet.register_to_config(in_channels=UNET_CHANNELS)

    def detach(self, pipeline: Any) -> None:
        if self._channels is not None:
            pipeline.unet.register_to_config(in_channels=self._channels)
            self._channels = None

    def finish(self, picture: Image.Image) -> Image.Image:
        """Outside the region, the picture's own pixels: the autoencoder must not change them."""
        return picture if self.region is None else Image.composite(picture, self.picture, self.region)
