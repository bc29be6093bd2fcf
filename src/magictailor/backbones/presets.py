"""Presets by a GPU's memory, and the memory that a step is expected to take.

The numbers were calculated with `benchmarks/memory.py` and `benchmarks/memory_transformers.py`; one case was measured on a
GPU (docs/experiments/memory.md).
"""

from dataclasses import dataclass, replace

GIGABYTE = 1e9
CARD_TOLERANCE = 1.07  # a driver reports a little less memory than the name of a card says
TRAINED_BYTES = 20  # a parameter, its gradient, AdamW's two moments and the momentum network's value, in float32


@dataclass(frozen=True)
class Preset:
    """``micro_batch`` (images per forward pass; None: all) and ``checkpointing`` go into the recipe.

    precision: of the frozen weights, unless the user names one. offload: the autoencoder is on the card only while it
    works, and so are text encoders whose words are trained; others encode on the CPU. tiling: the autoencoder decodes in
    tiles. sample_batch_size: images generated at a time. size: of the images, unless the model has only one.
    """

    name: str
    micro_batch: int | None = None
    checkpointing: bool = False
    precision: str | None = None
    offload: bool = False
    tiling: bool = False
    sample_batch_size: int = 8
    size: int | None = None

    @property
    def settings(self) -> list[str]:
        """Its settings in a recipe, as ``key=value``."""
        batch = [] if self.micro_batch is None else [f"optimisation.micro_batch={self.micro_batch}"]
        batch += [] if self.size is None else [f"data.size={self.size}"]
        return [*batch, *(["optimisation.checkpointing=true"] if self.checkpointing else [])]


@dataclass(frozen=True)
class Cost:
    """GB in half precision at the family's own size: forward and backward pass of the first image and of each further
    one, with all activations kept and with checkpointing; encoding one image."""

    kept: tuple[float, float]
    checkpointed: tuple[float, float]
    encode: float

    def of_step(self, images: int, checkpointing: bool) -> float:
        """GB of a micro-batch of ``images``, with momentum forward and backward pass."""
        first, further = self.checkpointed if checkpointing else self.kept
        return first + further * (images - 1)


COSTS = {
    "sd1": Cost((1.01, 0.99), (0.24, 0.24), 0.35),
    "sd2": Cost((1.02, 1.0), (0.24, 0.24), 0.35),
    "sd2-v": Cost((2.25, 2.23), (0.54, 0.54), 0.78),
    "sdxl": Cost((7.58, 7.46), (0.76, 0.76), 1.38),
}

# Of transformers, at 512 and 1024 pixels.
TRANSFORMER_COSTS: dict[str, tuple[Cost, Cost]] = {
    "sd3": (Cost((2.93, 2.42), (0.57, 0.51), 0.35), Cost((8.29, 7.78), (0.82, 0.55), 1.38)),
    "sana": (Cost((0.99, 0.96), (0.12, 0.07), 0.47), Cost((3.65, 3.62), (0.32, 0.29), 1.9)),
    "flux2-klein-4b": (Cost((6.37, 5.63), (0.74, 0.51), 0.34), Cost((17.93, 18.1), (1.86, 1.86), 1.36)),
    "z-image": (Cost((8.99, 8.93), (0.75, 0.7), 0.35), Cost((32.29, 32.23), (2.28, 2.28), 1.38)),
    "flux": (Cost((9.73, 8.45), (0.87, 0.75), 0.35), Cost((26.64, 27.53), (2.42, 2.42), 1.38)),
    "flux2-klein-9b": (Cost((11.01, 9.08), (1.06, 0.79), 0.34), Cost((29.96, 30.37), (2.75, 2.74), 1.36)),
    "qwen-image": (Cost((7.82, 8.48), (0.73, 0.64), 0.35), Cost((26.67, 29.59), (2.21, 2.25), 1.38)),
    "flux2-dev": (Cost((26.54, 26.43), (1.84, 1.83), 0.34), Cost((79.11, 79.59), (5.47, 5.46), 1.36)),
}
SMALL, LARGE = 512, 1024


def cost_of(family: str, size: int) -> Cost | None:
    """The counted cost at this size: between the two sizes that were counted by the number of pixels; None if unknown."""
    if family not in TRANSFORMER_COSTS:
        return COSTS.get(family)
    small, large = TRANSFORMER_COSTS[family]
    share = (size**2 - SMALL**2) / (LARGE**2 - SMALL**2)

    def between(a: float, b: float) -> float:
        return a + share * (b - a)

    def both(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
        return between(a[0], b[0]), between(a[1], b[1])

    kept, checkpointed = both(small.kept, large.kept), both(small.checkpointed, large.checkpointed)
    return Cost(kept, checkpointed, between(small.encode, large.encode))


FAST = Preset("fast")
_SD_512 = {"8gb": Preset("8gb", micro_batch=3, sample_batch_size=2), "12gb": Preset("12gb", sample_batch_size=4), "16gb": Preset("16gb"), "24gb": Preset("24gb")}  # fmt: skip
PRESETS: dict[str, dict[str, Preset]] = {
    "sd1": _SD_512,
    "sd2": _SD_512,
    "sd2-v": {
        "8gb": Preset("8gb", checkpointing=True, sample_batch_size=1),
        "12gb": Preset("12gb", micro_batch=3, sample_batch_size=2),
        "16gb": Preset("16gb", micro_batch=3, sample_batch_size=4),
        "24gb": Preset("24gb"),
    },
    "sdxl": {
        "8gb": Preset("8gb", 2, checkpointing=True, precision="nf4", offload=True, tiling=True, sample_batch_size=1),
        "12gb": Preset("12gb", 2, checkpointing=True, sample_batch_size=1),
        "16gb": Preset("16gb", checkpointing=True, sample_batch_size=2),
        "24gb": Preset("24gb", checkpointing=True, sample_batch_size=4),
    },
}
_NF4_OFFLOADED = Preset(
    "8gb", 1, checkpointing=True, precision="nf4", offload=True, tiling=True, sample_batch_size=1, size=512
)
_OFFLOADED = Preset("16gb", 2, checkpointing=True, offload=True, sample_batch_size=1)


def _transformer(gb8: Preset, gb12: Preset, gb16: Preset, gb24: Preset) -> dict[str, Preset]:
    """Presets for 8, 12, 16 and 24 GB. On all, text encoders wait: they are as large as the denoiser."""
    names = ("8gb", "12gb", "16gb", "24gb")
    return {name: replace(preset, name=name) for name, preset in zip(names, (gb8, gb12, gb16, gb24), strict=True)}


_OFFLOADED_WHOLE_BATCH = replace(_OFFLOADED, micro_batch=None)
_LARGE_FAMILIES = _transformer(
    _NF4_OFFLOADED,
    replace(_NF4_OFFLOADED, size=768),
    replace(_NF4_OFFLOADED, size=None),
    replace(_OFFLOADED, precision="nf4"),
)
PRESETS |= {
    "sana": _transformer(_OFFLOADED, _OFFLOADED, _OFFLOADED_WHOLE_BATCH, _OFFLOADED_WHOLE_BATCH),
    "sd3": _transformer(_OFFLOADED, _OFFLOADED, _OFFLOADED_WHOLE_BATCH, _OFFLOADED_WHOLE_BATCH),
    "flux2-klein-4b": _transformer(
        replace(_NF4_OFFLOADED, size=None),
        replace(_NF4_OFFLOADED, micro_batch=2, size=None),
        _OFFLOADED,
        _OFFLOADED_WHOLE_BATCH,
    ),
    **dict.fromkeys(("flux2-klein-9b", "flux2-dev", "flux", "z-image", "qwen-image"), _LARGE_FAMILIES),
}
NAMES = (*_SD_512, FAST.name)
FAST_FROM_GB = 60  # GB: such a card holds all activations of any family


# GB that a training of six images at rank 32 in half precision (or the preset's own) is expected to take on a card,
# counted in docs/experiments/memory.md.
EXPECTED: dict[str, dict[str, float]] = {
    "sd1": {"8gb": 5.3, "12gb": 8.3, "16gb": 8.3, "24gb": 8.3, "fast": 8.3},
    "sd2": {"8gb": 5.8, "12gb": 8.8, "16gb": 8.8, "24gb": 8.8, "fast": 8.8},
    "sd2-v": {"8gb": 6.0, "12gb": 9.5, "16gb": 9.5, "24gb": 16.2, "fast": 16.2},
    "sdxl": {"8gb": 4.7, "12gb": 9.7, "16gb": 12.7, "24gb": 12.7, "fast": 53.0},
    "sana": {"8gb": 6.2, "12gb": 6.2, "16gb": 6.2, "24gb": 6.2},
    "sd3": {"8gb": 6.5, "12gb": 6.5, "16gb": 8.5, "24gb": 8.5},
    "flux2-klein-4b": {"8gb": 5.0, "12gb": 6.8, "16gb": 12.1, "24gb": 19.6},
    "z-image": {"8gb": 4.9, "12gb": 5.5, "16gb": 6.4, "24gb": 8.7},
    "flux2-klein-9b": {"8gb": 7.8, "12gb": 8.5, "16gb": 9.5, "24gb": 12.2},
    "flux": {"8gb": 9.5, "12gb": 10.1, "16gb": 11.0, "24gb": 13.4},
    "qwen-image": {"8gb": 13.2, "12gb": 13.8, "16gb": 14.7, "24gb": 17.0},
    "flux2-dev": {"8gb": 24.2, "12gb": 25.7, "16gb": 27.9, "24gb": 33.3},
}


def preset_name(gigabytes: float) -> str:
    """The largest preset that a card of this much memory has room for."""
    if gigabytes > FAST_FROM_GB:
        return FAST.name
    fitting = [name for name in _SD_512 if int(name.removesuffix("gb")) <= gigabytes * CARD_TOLERANCE]
    return fitting[-1] if fitting else "8gb"


def preset_for(family: str, name: str | None, card_bytes: int | None) -> Preset:
    """The preset of that name, or the one for a card of this memory (None: no card, nothing to save)."""
    if name is None:
        name = FAST.name if card_bytes is None else preset_name(card_bytes / GIGABYTE)
    return PRESETS.get(family, {}).get(name, FAST)
