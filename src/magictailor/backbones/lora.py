"""A LoRA without any tool's names, and its keys in files. Strength 1 means what was trained, in each."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from magictailor.backbones.lora_names import comfyui_name, kohya_name
from magictailor.backbones.native_names import Native, Table, native_layer
from magictailor.common.headers import LORA_CONFIG
from magictailor.common.tensors import prefixed

# Of peft's configuration, what every version knows that diffusers works with: older ones refuse a field of later ones.
KNOWN_FIELDS = ("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "lora_bias", "use_dora")
A, B, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
DOWN, UP = ".lora_down.weight", ".lora_up.weight"
Tensors = Mapping[str, Tensor]


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


Adapter = Mapping[str, Layer]  # by the denoiser's layer's name in diffusers


def header_alpha(header: Mapping[str, str]) -> float | None:
    """The alpha that diffusers keeps in the file's header for all layers, if it says one."""
    try:
        config = json.loads(header.get(LORA_CONFIG, "{}"))
        alpha = next((v for k, v in config.items() if k.endswith(".lora_alpha") and "text" not in k), None)
    except (ValueError, AttributeError):
        return None
    return None if alpha is None else float(alpha)


def diffusers_header(header: Mapping[str, str], adapter: Adapter) -> dict[str, str]:
    """The header that diffusers makes its LoraConfig of: the run's, with alpha as it is after folding."""
    config = {k: v for k, v in json.loads(header[LORA_CONFIG]).items() if k.rpartition(".")[2] in KNOWN_FIELDS}
    rank = next(iter(adapter.values())).rank
    config |= {key: rank for key in config if key.endswith(".lora_alpha")}
    return {"format": "pt", LORA_CONFIG: json.dumps(config, sort_keys=True)}


def _spelled(layers: Mapping[str, Layer], down: str, up: str) -> dict[str, Tensor]:
    out = {}
    for name, layer in layers.items():
        out[name + down], out[name + up] = layer.down, layer.up
        out[name + ALPHA] = torch.tensor(layer.alpha)
    return out


class LoRAKeys(ABC):
    """A family's LoRA in the names of each tool. ``part``: the denoiser's folder in diffusers format."""

    part: str
    named = True  # whether any tool but diffusers has names for its layers

    def diffusers(self, adapter: Adapter) -> dict[str, Tensor]:
        """``<part>.<layer>.lora_A.weight`` and ``lora_B``, alpha folded in."""
        folded = {name: layer.folded() for name, layer in adapter.items()}
        down = {name + A: layer.down for name, layer in folded.items()}
        return prefixed(self.part, down | {name + B: layer.up for name, layer in folded.items()})

    @abstractmethod
    def kohya(self, adapter: Adapter) -> dict[str, Tensor]:
        """``lora_unet_<layer>.lora_down.weight``, ``.lora_up.weight`` and ``.alpha``."""

    @abstractmethod
    def comfyui(self, adapter: Adapter) -> dict[str, Tensor]:
        """``diffusion_model.<native layer>.lora_A.weight``, ``.lora_B.weight`` and ``.alpha``."""

    @abstractmethod
    def read(self, tensors: Tensors, modules: Iterable[str], alpha: float | None = None) -> Adapter:
        """Those of the ``modules`` that the tensors hold, under whichever names. ``alpha``: of layers without one."""


def _found(tensors: Tensors, names: Mapping[str, tuple[str, str]], alpha: float | None) -> Layer | None:
    """The layer under one of the names, each with the endings of its two factors."""
    for name, (down, up) in names.items():
        if name + down in tensors:
            own, a, b = tensors.get(name + ALPHA, alpha), tensors[name + down], tensors[name + up]
            return Layer(a, b, float(len(a) if own is None else own))
    return None


class UNetLoRAKeys(LoRAKeys):
    """``layers``: of a block; ``sgm``: kohya's files hold the original code's names, as SDXL's do."""

    part = "unet"

    def __init__(self, layers: int, sgm: bool) -> None:
        self.layers, self.sgm = layers, sgm

    def kohya(self, adapter: Adapter) -> dict[str, Tensor]:
        return _spelled({kohya_name(m, self.layers, self.sgm): layer for m, layer in adapter.items()}, DOWN, UP)

    def comfyui(self, adapter: Adapter) -> dict[str, Tensor]:
        return _spelled({comfyui_name(m, self.layers): layer for m, layer in adapter.items()}, A, B)

    def read(self, tensors: Tensors, modules: Iterable[str], alpha: float | None = None) -> Adapter:
        found = {}
        for module in modules:
            names = {f"{self.part}.{module}": (A, B), comfyui_name(module, self.layers): (A, B)}
            names |= {kohya_name(module, self.layers, sgm): (DOWN, UP) for sgm in (False, True)}
            if (layer := _found(tensors, names, alpha)) is not None:
                found[module] = layer
        return found


class TransformerLoRAKeys(LoRAKeys):
    """``table``: native layers; ``outputs``: of a layer of diffusers, its number of outputs."""

    part = "transformer"

    def __init__(self, table: Table, outputs: Callable[[str], int]) -> None:
        self.table, self.outputs, self.named = table, outputs, bool(table)

    def _native(self, adapter: Adapter) -> dict[str, Layer]:
        """Layers that are one in the original code become one: its rank is the sum of theirs, each in its own block."""
        natives = {native.name: native for native in (native_layer(m, self.table) for m in adapter)}
        return {name: self._joined(native, adapter) for name, native in natives.items()}

    def _joined(self, native: Native, adapter: Adapter) -> Layer:
        if len(native.modules) == 1:
            return adapter[native.modules[0]]
        parts = {m: adapter[m].folded() for m in native.modules if m in adapter}
        down = torch.cat([layer.down for layer in parts.values()])
        sizes = {m: self.outputs(m) for m in native.modules}
        up = down.new_zeros(sum(sizes.values()), len(down))
        row = column = 0
        for module, size in sizes.items():
            if module in parts:
                rank = parts[module].rank
                up[row : row + size, column : column + rank] = parts[module].up
                column += rank
            row += size
        return Layer(down, up, float(len(down)))

    def kohya(self, adapter: Adapter) -> dict[str, Tensor]:
        named = {f"lora_unet_{n.replace('.', '_')}": layer for n, layer in self._native(adapter).items()}
        return _spelled(named, DOWN, UP)

    def comfyui(self, adapter: Adapter) -> dict[str, Tensor]:
        """Alpha is folded in: ComfyUI needs none, and diffusers' converters of such files refuse one."""
        folded = {f"diffusion_model.{n}": layer.folded() for n, layer in self._native(adapter).items()}
        spelled = _spelled(folded, A, B)
        return {key: tensor for key, tensor in spelled.items() if not key.endswith(ALPHA)}

    def read(self, tensors: Tensors, modules: Iterable[str], alpha: float | None = None) -> Adapter:
        found = {}
        for module in modules:
            layer = _found(tensors, {f"{self.part}.{module}": (A, B)}, alpha) or self._split(tensors, module)
            if layer is not None:
                found[module] = layer
        return found

    def _split(self, tensors: Tensors, module: str) -> Layer | None:
        """A layer that is part of one in the file."""
        try:
            native = native_layer(module, self.table)
        except ValueError:
            return None
        spelled = {f"diffusion_model.{native.name}": (A, B), f"lora_unet_{native.name.replace('.', '_')}": (DOWN, UP)}
        whole = _found(tensors, spelled, None)
        if whole is None or len(native.modules) == 1:
            return whole
        start = sum(self.outputs(m) for m in native.modules[: native.modules.index(module)])
        up = whole.folded().up[start : start + self.outputs(module)]
        used = up.abs().sum(0) > 0  # of a file of ours, the other parts' columns are zero
        if not bool(used.any()):  # a part that changes nothing
            used = torch.arange(whole.rank) < whole.rank // len(native.modules)
        return Layer(whole.down[used], up[:, used], float(used.sum()))
