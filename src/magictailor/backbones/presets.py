"""How to fit a card: presets named by its memory, and what a step is expected to take there.

The figures were counted with `benchmarks/memory.py`; none was seen on a card (docs/models.md).
"""

from dataclasses import dataclass

GIGABYTE = 1e9
TRAINED_BYTES = 20  # a parameter, its gradient, AdamW's two moments and the momentum network's value, in float32


@dataclass(frozen=True)
class Preset:
    """``micro_batch`` images a forward (None: all) and ``checkpointing`` go into the recipe.

    precision: of the frozen weights, unless the user names one. offload: text encoders and autoencoder wait off the
    card. tiling: the autoencoder works piece by piece. pictures: drawn at a time.
    """

    name: str
    micro_batch: int | None = None
    checkpointing: bool = False
    precision: str | None = None
    offload: bool = False
    tiling: bool = False
    pictures: int = 8

    @property
    def settings(self) -> list[str]:
        """Its part of a recipe, as ``key=value``."""
        batch = [] if self.micro_batch is None else [f"micro_batch={self.micro_batch}"]
        return [*batch, *(["checkpointing=true"] if self.checkpointing else [])]


@dataclass(frozen=True)
class Cost:
    """Of a family at its own size, in half precision, in GB: a forward and backward of one image and of each further
    one, with all activations kept and with checkpointing; encoding one picture."""

    kept: tuple[float, float]
    checkpointed: tuple[float, float]
    encode: float

    def of_step(self, images: int, checkpointing: bool) -> float:
        """GB of a micro-batch of ``images``, with its momentum forward and its backward pass."""
        first, further = self.checkpointed if checkpointing else self.kept
        return first + further * (images - 1)


COSTS = {
    "sd1": Cost((1.54, 0.99), (0.29, 0.24), 0.35),
    "sd2": Cost((1.60, 1.00), (0.34, 0.24), 0.35),
    "sd2-v": Cost((2.84, 2.23), (0.63, 0.54), 0.78),
    "sdxl": Cost((12.31, 7.46), (1.07, 0.76), 1.38),
}

FAST = Preset("fast")
_512 = {"8gb": Preset("8gb", micro_batch=3, pictures=2), "12gb": Preset("12gb", pictures=4), "16gb": Preset("16gb"), "24gb": Preset("24gb")}  # fmt: skip
PRESETS: dict[str, dict[str, Preset]] = {
    "sd1": _512,
    "sd2": _512,
    "sd2-v": {
        "8gb": Preset("8gb", checkpointing=True, pictures=1),
        "12gb": Preset("12gb", micro_batch=3, pictures=2),
        "16gb": Preset("16gb", micro_batch=3, pictures=4),
        "24gb": Preset("24gb"),
    },
    "sdxl": {
        "8gb": Preset("8gb", 2, checkpointing=True, precision="nf4", offload=True, tiling=True, pictures=1),
        "12gb": Preset("12gb", 2, checkpointing=True, pictures=1),
        "16gb": Preset("16gb", checkpointing=True, pictures=2),
        "24gb": Preset("24gb", checkpointing=True, pictures=4),
    },
}
NAMES = (*_512, FAST.name)
ROOMY = 60  # GB, from which a card keeps all that any family's step makes


def _named_by(gigabytes: float) -> str:
    """The largest preset that a card of this much memory has room for; drivers report a little less than is printed on it."""
    if gigabytes > ROOMY:
        return FAST.name
    fitting = [name for name in _512 if int(name.removesuffix("gb")) <= gigabytes * 1.07]
    return fitting[-1] if fitting else "8gb"


def preset_for(family: str, name: str | None, card_bytes: int | None) -> Preset:
    """The preset of that name, or the one for this card (None: no card, nothing to save)."""
    if name is None:
        name = FAST.name if card_bytes is None else _named_by(card_bytes / GIGABYTE)
    return PRESETS.get(family, {}).get(name, FAST)
