"""ControlNet: the picture follows the edges, the depth, the pose or the lines of another one."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from magictailor.attachments.contract import Attachment, Role
from magictailor.attachments.controlnets import FLUX_MODES, SDXL_MODES, UNION, load_controlnet
from magictailor.attachments.maps import make_map
from magictailor.attachments.specs import Control
from magictailor.backbones import Backbone
from magictailor.backbones.contract import weights_digest
from magictailor.backbones.sampling import to_images
from magictailor.common.errors import InputError
from magictailor.common.files import digest
from magictailor.data.images import load_image
from magictailor.data.training_images import unmasked_image

LIMITED = ("control_guidance_start", "control_guidance_end")  # arguments that some families' pipelines do not have


def load(spec: Control, backbone: Backbone) -> Attachment:
    """See `magictailor.attachments.loading.load_attachment`."""
    picture, _ = load_image(Path(spec.image))
    size = backbone.size
    if spec.ready and picture.size != (size, size):
        raise InputError(
            f"{spec.image}: the map is {picture.width} x {picture.height}, but pictures are {size} x {size}",
            "resize it, or give the picture itself",
            field="control_map",
        )
    (square,) = to_images(unmasked_image(picture, size).pixels[None])
    drawn = square if spec.ready else make_map(spec.kind, square, backbone.family)
    name, network = load_controlnet(backbone, spec.kind, spec.model)
    return LoadedControl(spec, name, network, drawn)


class LoadedControl(Attachment):
    """A ``map`` of the model's size, RGB, and the ControlNet that reads it."""

    name = "control"

    def __init__(self, spec: Control, model: str, network: Any, map: Image.Image) -> None:
        self.spec, self.model, self.network, self.map = spec, model, network, map
        self._accepted: Mapping[str, Any] = {}

    @property
    def roles(self) -> frozenset[Role]:
        return frozenset({"control", "union"} if type(self.network).__name__ == UNION else {"control"})

    def record(self) -> Mapping[str, Any]:
        spec = self.spec
        return {
            "kind": spec.kind, "file": Path(spec.image).name, "sha256": digest(Path(spec.image)),
            "ready": spec.ready, "model": Path(self.model).name if Path(self.model).is_dir() else self.model,
            "model digest": weights_digest([self.network]), "strength": spec.strength, "start": spec.start,
            "end": spec.end,
        }  # fmt: skip

    def modules(self) -> dict[str, Any]:
        return {"controlnet": self.network}

    def check(self, pipeline: Any) -> None:
        spec = self.spec
        if (spec.start, spec.end) != (0, 1) and LIMITED[0] not in inspect.signature(pipeline.__call__).parameters:
            raise InputError(
                f"{pipeline.__name__} follows the map in all steps", "leave start and end out", field="control_start"
            )

    def attach(self, pipeline: Any) -> None:
        self._accepted = inspect.signature(type(pipeline).__call__).parameters

    def inputs(self, count: int) -> dict[str, Any]:
        spec, accepted = self.spec, self._accepted
        argument = "control_image" if "control_image" in accepted else "image"
        found: dict[str, Any] = {argument: self.map, "controlnet_conditioning_scale": float(spec.strength)}
        if LIMITED[0] in accepted:
            found |= dict(zip(LIMITED, (spec.start, spec.end)))
        if "control_mode" in accepted and (mode := self._mode()) is not None:
            found["control_mode"] = mode
        return found

    def _mode(self) -> int | None:
        """The number of the kind, for a ControlNet that knows several."""
        if "union" in self.roles:
            return SDXL_MODES[self.spec.kind]
        return FLUX_MODES[self.spec.kind] if self.network.config.get("num_mode") else None
