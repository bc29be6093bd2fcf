"""IP-Adapters and their image encoders: which are usual, and reading them."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from magictailor.backbones import Backbone
from magictailor.common.errors import InputError
from magictailor.common.hub import hub_answers
from magictailor.common.pretrained import load_pretrained
from magictailor.common.tensors import read_tensors, unprefixed
from magictailor.common.text import reason
from magictailor.weights import STYLE

PARTS = ("image_proj", "ip_adapter")
FIX = "check the name and the network, or give files of your own"


@dataclass(frozen=True)
class DefaultAdapter:
    """``adapter``: a file, or owner/name/file of the hub; ``encoder``: a folder, or owner/name of the hub and a folder in
    it; ``layers``: those in which it is meant to work, see `Style`."""

    adapter: str
    encoder: str
    layers: Literal["style", "all"] = "style"


DEFAULT_ADAPTERS = {
    # It has learned to add only the style, in all layers.
    "embedded": DefaultAdapter(str(STYLE / "ip-adapter.safetensors"), str(STYLE / "image_encoder"), "all"),
    "sd1": DefaultAdapter("h94/IP-Adapter/models/ip-adapter_sd15.safetensors", "h94/IP-Adapter/models/image_encoder"),
    "sdxl": DefaultAdapter(
        "h94/IP-Adapter/sdxl_models/ip-adapter_sdxl.safetensors", "h94/IP-Adapter/sdxl_models/image_encoder"
    ),
    "flux": DefaultAdapter("XLabs-AI/flux-ip-adapter/ip_adapter.safetensors", "openai/clip-vit-large-patch14"),
}
SIGLIP = "StableDiffusion3Pipeline"  # the family whose adapters read SigLIP


def read_adapter(name: str) -> dict[str, dict[str, Tensor]]:
    """An IP-Adapter's tensors, in its two parts.

    Raises:
        InputError: a missing or damaged file, a pickle, or none of an IP-Adapter.
    """
    path = Path(name).expanduser()
    if path.suffix != ".safetensors":
        raise InputError(
            f"{name}: not a .safetensors file", "convert it, or choose another IP-Adapter", field="style_model"
        )
    tensors = read_tensors(path if path.is_file() else _from_hub(name), fix=FIX, field="style_model")
    tensors = {name: tensor.half() if tensor.itemsize == 1 else tensor for name, tensor in tensors.items()}
    parts = {part: unprefixed(part, tensors) for part in PARTS}
    if not all(parts.values()):
        raise InputError(f"{name}: not an IP-Adapter (no {' and '.join(PARTS)})", "choose another", field="style_model")
    return parts


def tensors_digest(parts: dict[str, dict[str, Tensor]]) -> str:
    """Identifies an adapter by all of its numbers."""
    found = sha256()
    for _, tensors in sorted(parts.items()):
        for name, tensor in sorted(tensors.items()):
            found.update(name.encode() + tensor.float().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    owner, _, rest = name.partition("/")
    model, _, file = rest.partition("/")
    try:
        return Path(hf_hub_download(f"{owner}/{model}", file, local_files_only=not hub_answers()))
    except Exception as error:  # no such name, or no network: the library raises nearly anything
        raise InputError(
            f"{name}: neither a file nor found in the hub ({reason(error)})", FIX, field="style_model"
        ) from error


def load_encoder(name: str, backbone: Backbone) -> tuple[Any, Any]:
    """The image encoder, in the backbone's precision and on its device, and what prepares pictures for it.

    Raises:
        InputError: it cannot be read.
    """
    import transformers

    siglip = type(backbone.pipeline).__name__ == SIGLIP
    kinds = (
        ("SiglipVisionModel", "SiglipImageProcessor")
        if siglip
        else ("CLIPVisionModelWithProjection", "CLIPImageProcessor")
    )
    model: Any = getattr(transformers, kinds[0])
    processor: Any = getattr(transformers, kinds[1])
    source, options = (name, {}) if Path(name).expanduser().is_dir() else _hub_folder(name)
    encoder = load_pretrained(model, source, FIX, field="style_encoder", dtype=backbone.runtime.dtype, **options)
    side = encoder.config.image_size
    size = {"height": side, "width": side} if siglip else {"shortest_edge": side}
    prepare = processor(size=size) if siglip else processor(size=size, crop_size={"height": side, "width": side})
    return encoder.to(backbone.device).eval().requires_grad_(False), prepare


def _hub_folder(name: str) -> tuple[str, dict[str, Any]]:
    owner, model, *rest = [*name.split("/"), "", ""]
    folder = "/".join(filter(None, rest))
    return f"{owner}/{model}", {"subfolder": folder} if folder else {}
