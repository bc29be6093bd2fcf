"""ControlNet: the picture follows the edges, the depth, the pose or the lines of another one."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from magictailor.attachments.contract import Attachment, Request, Role
from magictailor.attachments.controlnets import FLUX_MODES, SDXL_MODES, UNION, load_controlnet
from magictailor.attachments.maps import KINDS, make_map
from magictailor.backbones import Backbone
from magictailor.backbones.contract import weights_digest
from magictailor.backbones.sampling import to_images
from magictailor.common.errors import InputError
from magictailor.common.files import digest
from magictailor.data.images import load_image
from magictailor.data.training_images import unmasked_image

LIMITED = ("control_guidance_start", "control_guidance_end")  # arguments that some families' pipelines do not have


@dataclass(frozen=True)
class Control(Request):
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

    def load(self, backbone: Backbone) -> Attachment:
        if self.kind not in KINDS:
            raise InputError(f"{self.kind}: unknown", f"choose one of {', '.join(KINDS)}", field="control")
        if not 0 <= self.strength <= 2:
            raise InputError(f"{self.strength}: out of range", "choose 0 .. 2", field="control_strength")
        if not 0 <= self.start < self.end <= 1:
            raise InputError(
                f"{self.start} to {self.end}: no part of the denoising",
                "choose 0 <= start < end <= 1",
                field="control_start",
            )
        picture, _ = load_image(Path(self.image))
        size = backbone.size
        if self.ready and picture.size != (size, size):
            raise InputError(
                f"{self.image}: a map of {picture.width} x {picture.height}, and pictures are {size} x {size}",
                "make it that size, or give the picture itself",
                field="control_map",
            )
        (square,) = to_images(unmasked_image(picture, size).pixels[None])
        drawn = square if self.ready else make_map(self.kind, square, backbone.family)
        name, network = load_controlnet(backbone, self.kind, self.model)
        return LoadedControl(self, name, network, drawn)


class LoadedControl(Attachment):
    """A ``map`` of the model's size, RGB, and the ControlNet that reads it."""

    name = "control"

    def __init__(self, request: Control, model: str, network: Any, map: Image.Image) -> None:
        self.request, self.model, self.network, self.map = request, model, network, map
        self._accepted: Mapping[str, Any] = {}

    @property
    def roles(self) -> frozenset[Role]:
        return frozenset({"control", "union"} if type(self.network).__name__ == UNION else {"control"})

    def record(self) -> Mapping[str, Any]:
        request = self.request
        return {
            "kind": request.kind, "file": Path(request.image).name, "sha256": digest(Path(request.image)),
            "ready": request.ready, "model": Path(self.model).name if Path(self.model).is_dir() else self.model,
            "model digest": weights_digest([self.network]), "strength": request.strength, "start": request.start,
            "end": request.end,
        }  # fmt: skip

    def modules(self) -> dict[str, Any]:
        return {"controlnet": self.network}

    def check(self, pipeline: Any) -> None:
        request = self.request
        if (request.start, request.end) != (0, 1) and LIMITED[0] not in inspect.signature(pipeline.__call__).parameters:
            raise InputError(
                f"{pipeline.__name__} follows the map in all steps", "leave start and end out", field="control_start"
            )

    def attach(self, pipeline: Any) -> None:
        self._accepted = inspect.signature(type(pipeline).__call__).parameters

    def inputs(self, count: int) -> dict[str, Any]:
        request, accepted = self.request, self._accepted
        argument = "control_image" if "control_image" in accepted else "image"
        found: dict[str, Any] = {argument: self.map, "controlnet_conditioning_scale": float(request.strength)}
        if LIMITED[0] in accepted:
            found |= dict(zip(LIMITED, (request.start, request.end)))
        if "control_mode" in accepted and (mode := self._mode()) is not None:
            found["control_mode"] = mode
        return found

    def _mode(self) -> int | None:
        """The number of the kind, for a ControlNet that knows several."""
        if "union" in self.roles:
            return SDXL_MODES[self.request.kind]
        return FLUX_MODES[self.request.kind] if self.network.config.get("num_mode") else None
