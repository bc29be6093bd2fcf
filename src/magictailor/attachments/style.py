"""A style image, by IP-Adapter; by InstantStyle, only in the layers that decide on style."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from magictailor.attachments.adapters import DEFAULT_ADAPTERS, load_encoder, read_adapter, tensors_digest
from magictailor.attachments.contract import Attachment, Role
from magictailor.attachments.specs import Style
from magictailor.backbones import Backbone
from magictailor.backbones.contract import weights_digest
from magictailor.common.errors import InputError
from magictailor.common.files import digest
from magictailor.common.text import reason
from magictailor.data.images import load_image

ARGUMENT = "ip_adapter_image"


def load(spec: Style, backbone: Backbone) -> Attachment:
    """See `magictailor.attachments.loading.load_attachment`."""
    if not hasattr(backbone.pipeline, "load_ip_adapter"):
        raise InputError(f"{backbone.family} takes no style image in diffusers", "leave it out", field="style")
    default = DEFAULT_ADAPTERS.get(backbone.family)
    model = spec.model or (default.adapter if default else None)
    encoder = spec.encoder or (default.encoder if default else None)
    if model is None or encoder is None:
        raise InputError(
            f"there is no standard IP-Adapter for {backbone.family}",
            "name one and its image encoder (style_model, style_encoder)",
            field="style",
        )
    if spec.layers is None:
        own = default.layers if default is not None and model == default.adapter else "style"
        spec = replace(spec, layers=own)
    network, prepare = load_encoder(encoder, backbone)
    picture, _ = load_image(Path(spec.image))
    loaded = LoadedStyle(spec, model, read_adapter(model), network, prepare, picture)
    loaded.try_on(backbone)
    return loaded


class LoadedStyle(Attachment):
    """A ``picture``, the ``tensors`` of an IP-Adapter, and the image encoder that it reads pictures by."""

    name = "style"

    def __init__(
        self,
        spec: Style,
        model: str,
        tensors: dict[str, dict[str, Any]],
        encoder: Any,
        prepare: Any,
        picture: Image.Image,
    ) -> None:
        self.spec, self.model, self.tensors = spec, model, tensors
        self.encoder, self.prepare, self.picture = encoder, prepare, picture
        self._kept: dict[str, Any] = {}

    @property
    def roles(self) -> frozenset[Role]:
        return frozenset({"style"})

    def record(self) -> Mapping[str, Any]:
        spec = self.spec
        return {
            "file": Path(spec.image).name, "sha256": digest(Path(spec.image)),
            "model": Path(self.model).name if Path(self.model).is_file() else self.model, "model digest": tensors_digest(self.tensors),
            "encoder digest": weights_digest([self.encoder]), "strength": spec.strength, "layers": spec.layers,
        }  # fmt: skip

    def modules(self) -> dict[str, Any]:
        return {"image_encoder": self.encoder, "feature_extractor": self.prepare}

    def check(self, pipeline: Any) -> None:
        if ARGUMENT not in inspect.signature(pipeline.__call__).parameters:
            raise InputError(f"{pipeline.__name__} takes no style image", "leave one of them out", field="style")

    def inputs(self, count: int) -> dict[str, Any]:
        return {ARGUMENT: self.picture}

    def try_on(self, backbone: Backbone) -> None:
        """Raises InputError for an IP-Adapter that does not fit the backbone."""
        from magictailor.attachments.joining import joined

        try:
            with joined(backbone, [self]):
                pass
        except (KeyError, IndexError, RuntimeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{self.model}: does not fit {backbone.family} ({reason(error)})",
                "choose another IP-Adapter",
                field="style_model",
            ) from error

    def attach(self, pipeline: Any) -> None:
        denoiser = _denoiser(pipeline)
        self._kept = {
            "processors": dict(denoiser.attn_processors), "config": denoiser._internal_dict,
            "layers": {name: getattr(denoiser, name) for name in ("encoder_hid_proj", "image_proj") if hasattr(denoiser, name)},
        }  # fmt: skip
        denoiser.register_to_config()  # a copy: loading writes into it
        pipeline.load_ip_adapter(dict(self.tensors), subfolder="", weight_name="", low_cpu_mem_usage=False)
        pipeline.set_ip_adapter_scale(self._scale(denoiser))

    def detach(self, pipeline: Any) -> None:
        if not self._kept:
            return
        denoiser = _denoiser(pipeline)
        for name in ("encoder_hid_proj", "image_proj"):
            if name in self._kept["layers"]:
                setattr(denoiser, name, self._kept["layers"][name])
            elif hasattr(denoiser, name):
                delattr(denoiser, name)
        denoiser.set_attn_processor(dict(self._kept["processors"]))  # the image projection had some of its own
        denoiser._internal_dict = self._kept["config"]
        self._kept = {}

    def _scale(self, denoiser: Any) -> Any:
        """The strength in each layer: InstantStyle's are those of the first block on the way up that has attention, of
        SDXL's ten-layer blocks only the middle one."""
        strength = float(self.spec.strength)
        if self.spec.layers == "all" or not hasattr(denoiser, "up_blocks"):
            return strength
        number, block = next((i, b) for i, b in enumerate(denoiser.up_blocks) if hasattr(b, "attentions"))
        count = len(block.attentions)
        middle = denoiser.config.addition_embed_type == "text_time" and count == 3
        return {"up": {f"block_{number}": [0.0, strength, 0.0] if middle else [strength] * count}}


def _denoiser(pipeline: Any) -> Any:
    return pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
