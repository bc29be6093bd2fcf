"""What a recipe takes from the base: numbers that depend on its size, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from magictailor.methods.prompt_words import RARE
from magictailor.recipe import LoRA, Prompts, PseudoWords, Trainable


@dataclass(frozen=True)
class BaseDefaults:
    """``steps`` and ``lr``: of MagicTailor's two phases. ``guidance`` and ``sampling_steps``: of `generate`.

    ``word_lr_scale``: the learning rate of pseudo-words, times a phase's. Without ``trains_words`` they are rare words
    beside their labels, "sks hair", and nothing of them is trained. ``lr_scales``: of the compared methods'
    published rates, by method; ``batches``: their photos of a step, if not as published.
    """

    steps: tuple[int, int]
    lr: tuple[float, float]
    rank: int
    guidance: float
    sampling_steps: int
    word_lr_scale: float = 1.0
    trains_words: bool = True
    optimizer: Literal["adamw", "prodigy"] = "adamw"
    lr_scales: Mapping[str, float] = field(default_factory=dict)
    batches: Mapping[str, int] = field(default_factory=dict)

    @property
    def trained(self) -> tuple[Trainable, ...]:
        """What MagicTailor trains."""
        words = (PseudoWords(lr_scale=self.word_lr_scale),) if self.trains_words else ()
        return (LoRA(rank=self.rank), *words)

    @property
    def prompts(self) -> Prompts:
        return Prompts() if self.trains_words else Prompts(initial_words=RARE)


PAPER = BaseDefaults(steps=(200, 300), lr=(1e-4, 1e-5), rank=32, guidance=7.5, sampling_steps=50)
# By docs/experiments/rates.md. With these batches, all methods see about as many images as MagicTailor: 900 of a pair with
# six photos.
EMBEDDED = BaseDefaults(
    steps=(60, 90), lr=(1e-3, 1e-4), rank=16, guidance=4.0, sampling_steps=25, word_lr_scale=3.0,
    lr_scales={
        "textual-inversion": 30.0, "dreambooth": 30.0, "custom-diffusion": 10.0, "break-a-scene": 90.0, "clic": 10.0,
    },
    batches={"textual-inversion": 1, "dreambooth": 3, "custom-diffusion": 3, "break-a-scene": 4, "clic": 6},
)  # fmt: skip
_LARGE = replace(PAPER, trains_words=False)  # the paper's rates; the pipelines' own guidance and steps
BY_FAMILY = {
    "embedded": EMBEDDED,
    "embedded-dit": replace(EMBEDDED, steps=(120, 180), lr=(1e-3, 1e-3)),
    "sd3": replace(_LARGE, guidance=7.0, sampling_steps=28),
    "sd3-clip": replace(PAPER, guidance=7.0, sampling_steps=28),
    "flux": replace(_LARGE, guidance=3.5, sampling_steps=28),
    "flux2-klein-4b": replace(_LARGE, guidance=4.0),
    "flux2-klein-9b": replace(_LARGE, guidance=4.0),
    "flux2-dev": replace(_LARGE, guidance=4.0),
    # AdamW does not converge on it; prodigy's rate is a factor of the one that it finds.
    "z-image": replace(_LARGE, lr=(1.0, 0.1), guidance=5.0, optimizer="prodigy", lr_scales={"dreambooth": 1e4}),
    "qwen-image": replace(_LARGE, guidance=4.0),
    "sana": replace(_LARGE, guidance=4.5, sampling_steps=20),
}


def defaults_for(family: str) -> BaseDefaults:
    """The defaults for a base of this family; the paper's for Stable Diffusion 1, 2 and XL."""
    return BY_FAMILY.get(family, PAPER)
