"""What a recipe takes from the base: numbers that depend on its size, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class BaseDefaults:
    """``steps`` and ``lr``: of MagicTailor's two phases. ``guidance`` and ``sampling_steps``: of `generate`.

    ``word_lr_scale``: the learning rate of pseudo-words, times a phase's. ``lr_scales``: of the compared methods'
    published rates, by method.
    """

    steps: tuple[int, int]
    lr: tuple[float, float]
    rank: int
    guidance: float
    sampling_steps: int
    word_lr_scale: float = 1.0
    lr_scales: Mapping[str, float] = field(default_factory=dict)


PAPER = BaseDefaults(steps=(200, 300), lr=(1e-4, 1e-5), rank=32, guidance=7.5, sampling_steps=50)
# Searched by the judge on pairs of an earlier world; docs/methods.md has what is known of them on this one.
EMBEDDED = BaseDefaults(
    steps=(120, 180), lr=(1e-4, 1e-4), rank=4, guidance=4.0, sampling_steps=25, word_lr_scale=3.0,
    lr_scales={
        "textual-inversion": 30.0, "dreambooth": 10.0, "custom-diffusion": 3.0, "break-a-scene": 10.0, "clic": 10.0,
    },
)  # fmt: skip
BY_FAMILY = {"embedded": EMBEDDED}


def defaults_for(family: str) -> BaseDefaults:
    """The defaults for a base of this family; the paper's for all of Stable Diffusion."""
    return BY_FAMILY.get(family, PAPER)
