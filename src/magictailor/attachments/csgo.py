"""CSGO, from a user's own checkout: the finished picture once more, in the style of another one.

CSGO restyles a content picture, and there is none yet while the run's picture is generated: so a second pass of CSGO's own
takes the finished picture as its content. Its processors are in the run's U-Net only during that pass, so the picture
that is restyled is the one that the run generates without a style, to the byte.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from magictailor.attachments.adapters import tensors_digest
from magictailor.attachments.contract import Attachment, Role
from magictailor.attachments.controlnets import load_controlnet
from magictailor.attachments.joining import joined
from magictailor.attachments.specs import CSGO
from magictailor.backbones import Backbone
from magictailor.backbones.contract import weights_digest
from magictailor.backbones.sampling import SamplingOptions, scheduler, to_images
from magictailor.common.checkouts import check_checkout, importable
from magictailor.common.errors import InputError
from magictailor.common.files import digest
from magictailor.common.pretrained import check_part
from magictailor.common.tensors import read_tensors, unprefixed
from magictailor.common.text import reason
from magictailor.data.images import load_image

INSTALL = "git clone https://github.com/instantX-research/CSGO && pip install einops torchvision"
SEE = "see CSGO in docs/applications.md"
CODE = "ip_adapter/ip_adapter.py"
# Where its README puts what it needs, below the checkout.
WEIGHTS = "CSGO/csgo_4_32.safetensors"
ENCODER = "base_models/IP-Adapter/sdxl_models/image_encoder"
CONTROLNET = "base_models/TTPLanet_SDXL_Controlnet_Tile_Realistic"
FIELD = "style_checkout"
PARTS = ("content_image_proj", "style_image_proj", "ip_adapter", "controlnet_adapter_modules")
FIRST_LAYER = "conv_in_unet_sd"  # a part that weights may have
CONTENT, TILE = 1.0, 0.6  # how strongly the content picture holds, by its features and by the ControlNet


def load(spec: CSGO, backbone: Backbone) -> Attachment:
    """See `magictailor.attachments.loading.load_attachment`."""
    if type(backbone.pipeline).__name__ != "StableDiffusionXLPipeline":
        raise InputError(
            f"CSGO is for SDXL, not for {backbone.family}",
            "leave it out: then an IP-Adapter takes the style",
            field=FIELD,
        )
    if backbone.runtime.precision != "fp16":
        problem = f"CSGO computes only in fp16, not in {backbone.runtime.precision}"
        raise InputError(problem, "choose precision fp16", field=FIELD)
    checkout = check_checkout(spec.checkout, CODE, "CSGO", INSTALL, FIELD)
    parts = read_weights(Path(spec.model or checkout / WEIGHTS).expanduser())
    encoder = _there(Path(spec.encoder or checkout / ENCODER).expanduser(), "the image encoder", "style_encoder")
    check_part(encoder, field="style_encoder")
    folder = _there(checkout / CONTROLNET, "the tile ControlNet", FIELD)
    try:
        _, controlnet = load_controlnet(backbone, "tile", str(folder))
    except InputError as error:
        raise error.about(FIELD) from error
    picture, _ = load_image(Path(spec.image))
    return LoadedCSGO(spec, backbone, CSGOAdapter(checkout, parts, encoder, controlnet), picture.convert("RGB"))


def read_weights(file: Path) -> dict[str, dict[str, Tensor]]:
    """CSGO's weights by part, from safetensors only: its own code would unpickle them.

    Raises:
        InputError: a missing or damaged file, a pickle, or not CSGO's.
    """
    if file.suffix != ".safetensors":
        raise InputError(f"{file}: a pickle, which can run code", f"convert it, {SEE}", field="style_model")
    tensors = read_tensors(file, fix=f"convert it, {SEE}", field="style_model")
    parts = {part: found for part in (*PARTS, FIRST_LAYER) if (found := unprefixed(part, tensors))}
    if missing := [part for part in PARTS if part not in parts]:
        raise InputError(f"{file}: not CSGO's weights (no {', '.join(missing)})", SEE, field="style_model")
    return parts


def _there(folder: Path, part: str, field: str) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder}: {part} is missing", SEE, field=field)
    return folder


class LoadedCSGO(Attachment):
    """The style ``picture``, RGB, and the adapter that the run's networks have in the second pass."""

    name = "csgo"

    def __init__(self, spec: CSGO, backbone: Backbone, adapter: "CSGOAdapter", picture: Image.Image) -> None:
        self.spec, self.backbone, self.adapter, self.picture = spec, backbone, adapter, picture
        controlnet = weights_digest([adapter.controlnet])  # before it has layers of CSGO
        try:
            with backbone.inference_mode(), joined(backbone, [adapter]):
                pass
        except InputError:
            raise
        except (KeyError, IndexError, RuntimeError, ValueError, AttributeError, TypeError) as error:
            raise InputError(f"its weights do not fit {backbone.family} ({reason(error)})", SEE, field=FIELD) from error
        self._digests = {
            "model digest": tensors_digest(adapter.parts), "encoder digest": weights_digest([adapter.csgo.image_encoder]),
            "controlnet digest": controlnet, "code sha256": digest(adapter.checkout / CODE),
        }  # fmt: skip

    @property
    def roles(self) -> frozenset[Role]:
        return frozenset()  # nothing in the first pass

    def record(self) -> Mapping[str, Any]:
        image = Path(self.spec.image)
        return {
            "file": image.name, "sha256": digest(image), "strength": self.spec.strength, "content": CONTENT, "tile": TILE,
            **self._digests,
        }  # fmt: skip

    def inputs(self, count: int) -> dict[str, Any]:
        return {}

    @torch.no_grad()
    def second_pass(self, picture: Image.Image, prompt: str, seed: int, options: SamplingOptions) -> Image.Image:
        backbone = self.backbone
        with backbone.inference_mode(), joined(backbone, [self.adapter]) as pipeline:
            pipeline.scheduler = scheduler(options.scheduler or next(iter(backbone.schedulers)), backbone)
            sampled = self.adapter.csgo.generate(
                pil_content_image=picture, pil_style_image=self.picture, image=picture, prompt=prompt, negative_prompt="",
                content_scale=CONTENT, style_scale=float(self.spec.strength), controlnet_conditioning_scale=TILE,
                width=picture.width, height=picture.height, num_samples=1, seed=seed, guidance_scale=options.guidance,
                num_inference_steps=options.steps, output_type=backbone.sampled_as,
            )  # fmt: skip
            (made,) = to_images(backbone.pixels_of(sampled))
        return made


class CSGOAdapter(Attachment):
    """CSGO's own object, made of the pipeline that it is first attached to; its processors are there while attached."""

    name = "csgo"

    def __init__(
        self, checkout: Path, parts: dict[str, dict[str, Tensor]], encoder: Path, controlnet: nn.Module
    ) -> None:
        self.checkout, self.parts, self.encoder, self.controlnet = checkout, parts, encoder, controlnet
        self.csgo: Any = None
        self._processors: dict[str, Any] = {}
        self._kept: tuple[dict[str, Any], nn.Module] | None = None

    @property
    def roles(self) -> frozenset[Role]:
        return frozenset({"control"})

    def record(self) -> Mapping[str, Any]:
        return {}

    def inputs(self, count: int) -> dict[str, Any]:
        return {}

    def modules(self) -> dict[str, Any]:
        return {"controlnet": self.controlnet}

    def attach(self, pipeline: Any) -> None:
        unet = pipeline.unet
        self._kept = dict(unet.attn_processors), unet.conv_in
        if FIRST_LAYER in self.parts:
            unet.conv_in = copy.deepcopy(unet.conv_in)
            unet.conv_in.load_state_dict(self.parts[FIRST_LAYER])
        if self.csgo is None:
            self.csgo = self._made(pipeline)
            self._processors = dict(unet.attn_processors)
        else:
            self.csgo.pipe = pipeline
            unet.set_attn_processor(dict(self._processors))

    def detach(self, pipeline: Any) -> None:
        if self._kept is not None:
            processors, pipeline.unet.conv_in = self._kept
            pipeline.unet.set_attn_processor(dict(processors))
            self._kept = None

    def _made(self, pipeline: Any) -> Any:
        with importable(self.checkout, CODE, "CSGO", INSTALL, FIELD), _as_diffusers_was():
            from ip_adapter import CSGO as Theirs
            from ip_adapter.utils import BLOCKS, controlnet_BLOCKS
        # Only its reading of the weights is replaced: of safetensors it leaves out what belongs to the ControlNet.
        kind = type("CSGO", (Theirs,), {"load_ip_adapter": lambda csgo: _fill(csgo, self.parts)})
        made = kind(
            pipeline, str(self.encoder), "", pipeline.unet.device,
            num_content_tokens=self.parts["content_image_proj"]["latents"].shape[1],
            num_style_tokens=self.parts["style_image_proj"]["latents"].shape[1],
            target_content_blocks=BLOCKS["content"], target_style_blocks=BLOCKS["style"], controlnet_adapter=True,
            controlnet_target_content_blocks=controlnet_BLOCKS["content"],
            controlnet_target_style_blocks=controlnet_BLOCKS["style"],
            content_model_resampler=True, style_model_resampler=True,
        )  # fmt: skip
        made.content_image_encoder = made.image_encoder  # it has read the same one twice
        return made


def _fill(csgo: Any, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Load all of its weights. Raises KeyError if one of its layers finds none."""
    csgo.content_image_proj_model.load_state_dict(parts["content_image_proj"])
    csgo.style_image_proj_model.load_state_dict(parts["style_image_proj"])
    layers = nn.ModuleList(csgo.pipe.unet.attn_processors.values())
    controlnet = csgo.pipe.controlnet
    own = [name for name in controlnet.state_dict() if ".processor." in name]
    for network, names, part in (
        (layers, list(layers.state_dict()), "ip_adapter"),
        (controlnet, own, "controlnet_adapter_modules"),
    ):
        network.load_state_dict({name: parts[part][name] for name in names}, strict=False)


@contextmanager
def _as_diffusers_was() -> Iterator[None]:
    """Inside, a class of diffusers can also be imported from where it was when CSGO's code was written."""
    from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel
    from diffusers.pipelines import controlnet

    was = vars(controlnet).get("MultiControlNetModel")
    controlnet.MultiControlNetModel = MultiControlNetModel
    try:
        yield
    finally:
        if was is None:
            del controlnet.MultiControlNetModel
