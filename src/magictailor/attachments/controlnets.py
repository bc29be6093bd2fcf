"""ControlNets: which class a family has, which model is usual, and whether one fits."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from magictailor.backbones import Backbone
from magictailor.common.errors import InputError
from magictailor.common.pretrained import load_pretrained
from magictailor.common.records import read_json
from magictailor.weights import CONTROL

CLASSES = {
    "StableDiffusionPipeline": "ControlNetModel",
    "StableDiffusionXLPipeline": "ControlNetModel",
    "StableDiffusion3Pipeline": "SD3ControlNetModel",
    "FluxPipeline": "FluxControlNetModel",
    "QwenImagePipeline": "QwenImageControlNetModel",
    "ZImagePipeline": "ZImageControlNetModel",
    "SanaPipeline": "SanaControlNetModel",
}
UNION = "ControlNetUnionModel"  # of SDXL: one model for all kinds
SDXL_MODES = {"pose": 0, "depth": 1, "lines": 3, "canny": 3}
FLUX_MODES = {"canny": 0, "lines": 0, "depth": 2, "pose": 4}
# Settings of a ControlNet that must be those of the denoiser, where both have them.
SHARED = (
    "cross_attention_dim", "joint_attention_dim", "pooled_projection_dim", "in_channels", "addition_embed_type",
    "caption_channels", "dim",
)  # fmt: skip
EMBEDDED = str(CONTROL)


@dataclass(frozen=True)
class DefaultControlNets:
    """The models of a family by kind, as their authors published them; ``every``: one for all kinds."""

    by_kind: Mapping[str, str] = field(default_factory=dict)
    every: str = ""

    def model(self, kind: str) -> str | None:
        return self.by_kind.get(kind) or self.every or None


def _sd1(kind: str, version: str = "v11p") -> str:
    return f"lllyasviel/control_{version}_sd15_{kind}"


def _sd2(kind: str) -> str:
    return f"thibaud/controlnet-sd21-{kind}-diffusers"


_SD2 = DefaultControlNets(
    {"canny": _sd2("canny"), "depth": _sd2("depth"), "pose": _sd2("openpose"), "lines": _sd2("lineart")}
)
DEFAULT_CONTROLNETS: dict[str, DefaultControlNets] = {
    "embedded": DefaultControlNets({"lines": EMBEDDED, "canny": EMBEDDED} if CONTROL.is_dir() else {}),
    "sd1": DefaultControlNets(
        {"canny": _sd1("canny"), "depth": _sd1("depth", "v11f1p"), "pose": _sd1("openpose"), "lines": _sd1("lineart")}
    ),
    "sd2": _SD2,
    "sd2-v": _SD2,
    "sdxl": DefaultControlNets(every="xinsir/controlnet-union-sdxl-1.0"),
    "sd3": DefaultControlNets(
        {k: f"stabilityai/stable-diffusion-3.5-large-controlnet-{k}" for k in ("canny", "depth")}
    ),
    "flux": DefaultControlNets(every="InstantX/FLUX.1-dev-Controlnet-Union"),
    "qwen-image": DefaultControlNets(every="InstantX/Qwen-Image-ControlNet-Union"),
}  # fmt: skip


def load_controlnet(backbone: Backbone, kind: str, model: str | None) -> tuple[str, Any]:
    """A ControlNet's name and network, in the backbone's precision and on its device.

    Args:
        model: a folder in diffusers format, a .safetensors file, or a hub's name; None: the family's usual one.

    Raises:
        InputError: there is no standard one, it cannot be read, or it belongs to another family.
    """
    import diffusers

    own = CLASSES.get(type(backbone.pipeline).__name__)
    if own is None:
        raise InputError(f"{backbone.family} has no ControlNet in diffusers", "leave it out", field="control")
    name = model or DEFAULT_CONTROLNETS.get(backbone.family, DefaultControlNets()).model(kind)
    if name is None:
        known = ", ".join(DEFAULT_CONTROLNETS.get(backbone.family, DefaultControlNets()).by_kind) or "none"
        raise InputError(
            f"{kind}: there is no standard ControlNet for it on {backbone.family} (kinds that have one: {known})",
            "give one with control_model; for the embedded base, train one with `magictailor world train-control`",
            field="control",
        )
    path = Path(name).expanduser()
    config = _config(path)
    if "num_control_type" in config and type(backbone.pipeline).__name__ == "StableDiffusionXLPipeline":
        own = UNION
    elif (found := config.get("_class_name", own)) != own:
        raise _other(name, f"a {found}", backbone)
    loader: Any = getattr(diffusers, own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of a class that diffusers' own code uses
        fix = "check the name and the network, or give a folder"
        network = load_pretrained(loader, name, fix, field="control_model", torch_dtype=backbone.runtime.dtype)
    _check_fit(name, network, backbone)
    if (base := _trained_for(path)) not in (None, backbone.digest_as_loaded):
        raise InputError(
            f"{name}: was trained for another embedded base ({base})", "train one for this base", field="control_model"
        )
    return name, network.to(backbone.device).eval().requires_grad_(False)


def _config(path: Path) -> dict[str, Any]:
    """Of a folder; a hub's model is checked when it is loaded."""
    fix = "give a ControlNet's folder, with its config.json"
    return dict(read_json(path / "config.json", fix, field="control_model")) if path.is_dir() else {}


def _trained_for(path: Path) -> str | None:
    """The digest of the embedded base that a ControlNet of the world was trained for."""
    file = path / "training.json"
    return read_json(file, "train it again", field="control_model").get("base") if file.is_file() else None


def _check_fit(name: str, network: Any, backbone: Backbone) -> None:
    ours, theirs = dict(backbone.denoiser.config), dict(network.config)  # type: ignore[arg-type]
    for key in SHARED:
        pair = theirs.get(key), ours.get(key)
        if None not in pair and pair[0] != pair[1]:
            raise _other(name, f"{key} {pair[0]} instead of {pair[1]}", backbone)


def _other(name: str, problem: str, backbone: Backbone) -> InputError:
    return InputError(
        f"{name}: belongs to another family than {backbone.family} ({problem})",
        f"choose a ControlNet for {backbone.family}",
        field="control_model",
    )
