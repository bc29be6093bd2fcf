"""A LoRA without any tool's names, and its three spellings. Strength 1 means what was trained, in each."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from magictailor.backbones.lora_names import comfyui_name, kohya_name
from magictailor.common.tensors import prefixed

HEADER = "lora_adapter_metadata"


@dataclass(frozen=True)
class Layer:
    """``up @ down * alpha / rank`` is added to the layer's weight. Linear: down [r, in], up [out, r]; 1 x 1
    convolutions: [r, in, 1, 1] and [out, r, 1, 1]."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return len(self.down)

    def folded(self) -> "Layer":
        """The same change with alpha equal to the rank: for readers that know no alpha."""
        return Layer(self.down, self.up * (self.alpha / self.rank), float(self.rank))


Adapter = Mapping[str, Layer]  # by the U-Net layer's name in diffusers


def header_alpha(header: Mapping[str, str]) -> float | None:
    """The alpha that diffusers keeps in the file's header for all layers, if it says one."""
    try:
        alpha = json.loads(header.get(HEADER, "{}")).get("unet.lora_alpha")
    except (ValueError, AttributeError):
        return None
    return None if alpha is None else float(alpha)


def _spellings(module: str, layers: int) -> dict[str, tuple[str, str]]:
    """A layer's name in each spelling, with the endings of its two factors."""
    factors, kohyas = (".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight")
    return {
        f"unet.{module}": factors,
        comfyui_name(module, layers): factors,
        kohya_name(module, layers, sgm=False): kohyas,
        kohya_name(module, layers, sgm=True): kohyas,
    }


def adapter_of(
    tensors: Mapping[str, Tensor], modules: Iterable[str], layers: int, alpha: float | None = None
) -> Adapter:
    """Those of the ``modules`` (layers' names in diffusers) that the tensors hold, in whichever spelling.

    ``layers``: of a block of the U-Net; ``alpha``: of layers that have none beside them, the rank if None.
    """
    found: dict[str, Layer] = {}
    for module in modules:
        for name, (down, up) in _spellings(module, layers).items():
            if name + down in tensors:
                own = tensors.get(f"{name}.alpha", alpha)
                a, b = tensors[name + down], tensors[name + up]
                found[module] = Layer(a, b, float(len(a) if own is None else own))
                break
    return found


def diffusers_tensors(adapter: Adapter) -> dict[str, Tensor]:
    """``unet.<layer>.lora_A.weight`` and ``lora_B``, alpha folded in."""
    folded = {name: layer.folded() for name, layer in adapter.items()}
    down = {f"{name}.lora_A.weight": layer.down for name, layer in folded.items()}
    return prefixed("unet", down | {f"{name}.lora_B.weight": layer.up for name, layer in folded.items()})


def _spelled(adapter: Adapter, name: Callable[[str], str], down: str, up: str) -> dict[str, Tensor]:
    out = {}
    for module, layer in adapter.items():
        out[f"{name(module)}.{down}.weight"], out[f"{name(module)}.{up}.weight"] = layer.down, layer.up
        out[f"{name(module)}.alpha"] = torch.tensor(layer.alpha)
    return out


def kohya_tensors(adapter: Adapter, layers: int, sgm: bool) -> dict[str, Tensor]:
    """``lora_unet_<layer>.lora_down.weight``, ``.lora_up.weight`` and ``.alpha``; A1111, sd-scripts, ComfyUI."""
    return _spelled(adapter, lambda module: kohya_name(module, layers, sgm), "lora_down", "lora_up")


def comfyui_tensors(adapter: Adapter, layers: int) -> dict[str, Tensor]:
    """``diffusion_model.<sgm layer>.lora_A.weight``, ``.lora_B.weight`` and ``.alpha``."""
    return _spelled(adapter, lambda module: comfyui_name(module, layers), "lora_A", "lora_B")


def diffusers_header(header: Mapping[str, str], adapter: Adapter) -> dict[str, str]:
    """The header that diffusers makes its LoraConfig of: the run's, with alpha as it is after folding."""
    config = json.loads(header[HEADER])
    config["unet.lora_alpha"] = next(iter(adapter.values())).rank
    return {"format": "pt", HEADER: json.dumps(config, sort_keys=True)}
