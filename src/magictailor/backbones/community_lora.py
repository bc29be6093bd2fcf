"""LoRAs made elsewhere, merged into a base before any training."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magictailor.common.errors import InputError
from magictailor.common.files import digest
from magictailor.common.headers import BUNDLE, read_header
from magictailor.common.text import reason

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 8 * 2**30  # of a LoRA
FIX = "name a LoRA in a .safetensors file"


@dataclass(frozen=True)
class CommunityLoRA:
    """A LoRA's file, its digest, and its strength (1: as trained; negative: away from it)."""

    file: str
    sha256: str
    strength: float


def _digest(file: Path) -> str:
    try:
        return digest(file)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}", "name a .safetensors file", field="loras") from error


def community_lora(text: str) -> CommunityLoRA:
    """``FILE`` or ``FILE=STRENGTH``.

    Raises:
        InputError: no such file, or a strength that is not a number.
    """
    name, equals, number = text.rpartition("=")
    name, number = (name, number) if equals else (text, "1")
    try:
        strength = float(number)
    except ValueError:
        name, strength = text, 1.0  # a file's name may hold a =
    if not -10 <= strength <= 10:
        raise InputError(f"{text}: strengths go from -10 to 10", f"write for instance {name}=0.8", field="loras")
    try:
        file = Path(name).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{name}: not a path ({error})", FIX, field="loras") from error
    read_header(file, FIX, field="loras")  # before gigabytes of something else are read
    return CommunityLoRA(str(file), _digest(file), strength)


def _readable(pipeline: Any, file: Path) -> "dict[str, Tensor] | str":
    """What diffusers' loader takes: the file's path, or the tensors of files that it cannot read itself.

    Those are files with embeddings, and a U-Net's with ComfyUI's native keys, which are renamed; it knows other families'.
    """
    from magictailor.backbones.lora import UNetLoRAKeys
    from magictailor.common.tensors import read_tensors

    keys = list(read_header(file, FIX, field="loras").entries)
    if any("dora_scale" in key for key in keys):
        raise ValueError("it is a DoRA, whose magnitudes are not read")
    found = read_tensors(file, fix=FIX, field="loras", limit=MAX_BYTES)
    tensors = {key: tensor for key, tensor in found.items() if not key.startswith(BUNDLE)}
    unet = getattr(pipeline, "unet", None)
    if unet is None or not any(key.startswith("diffusion_model.") for key in tensors):
        return str(file) if len(tensors) == len(keys) else tensors
    modules = [n for n, m in unet.named_modules() if ".attentions." in n and hasattr(m, "weight")]
    lora_keys = UNetLoRAKeys(unet.config.layers_per_block, sgm=False)
    adapter = lora_keys.read(tensors, modules)
    if 2 * len(adapter) < sum(".lora_" in key for key in tensors):
        raise ValueError("it has layers that this model does not have")
    return lora_keys.diffusers(adapter)


def merge(pipeline: Any, loras: Iterable[CommunityLoRA]) -> None:
    """Add each LoRA to the pipeline's weights, in kohya's, diffusers' or ComfyUI's spelling.

    Raises:
        InputError: a file that has changed since, is not a LoRA, or is one for another family.
    """
    for lora in loras:
        file = Path(lora.file)
        if _digest(file) != lora.sha256:
            raise InputError(f"{file}: not the file that the run was trained with", "put that one back", field="loras")
        try:
            pipeline.load_lora_weights(_readable(pipeline, file), local_files_only=True)
            if not pipeline.get_list_adapters():
                raise ValueError("none of its layers could be loaded")
            pipeline.fuse_lora(lora_scale=lora.strength)
            pipeline.unload_lora_weights()
        except InputError:
            raise
        except Exception as error:  # another family's sizes, a picture: the library raises nearly anything
            raise InputError(
                f"{file}: not a LoRA for this model ({reason(error)})",
                f"`magictailor inspect {file}` says what it is",
                field="loras",
            ) from error
