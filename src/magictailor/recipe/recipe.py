"""The recipe itself, its phases, and what it calls things."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from magictailor.recipe.losses import (
    ContextMask,
    CrossAttention,
    Degradation,
    DMDeg,
    Preserve,
    Prior,
    RegionOfInterest,
)
from magictailor.recipe.part import Part, fields_of, with_the_word
from magictailor.recipe.trainables import Kind, LoRA, PseudoWords, Trainable

OF_THE_DENOISER = {"lora", "cross-attention", "denoiser"}


class Augment(Part):
    """Brightness, contrast and saturation (or brightness alone) within 1 +- jitter; horizontal flip with a probability.

    ``scale``: Custom Diffusion's: the picture is made smaller or larger, and the prompt says so.
    """

    jitter: float = Field(0.1, ge=0, lt=1)
    brightness_alone: bool = False
    flip: float = Field(0.5, ge=0, le=1)
    scale: bool = False
    shared: bool = False  # one draw for all images of a step, as the reference does: its defect 3


class Phase(Part):
    """A stretch of the run with one loss and one rate.

    The loss is ``reduce`` over samples of the (masked) diffusion loss, plus the other terms that are given.
    """

    steps: int = Field(ge=1, le=10_000_000)
    lr: float = Field(gt=0)
    lr_per_image: bool = True  # times the number of the pair's images in a step, by the paper's appendix
    train: tuple[Kind, ...] | None = None  # which of the recipe's parts; None: all
    new_optimizer: bool = False  # begin with an optimizer that has no memory
    degradation: Degradation = DMDeg()
    reduce: Literal["mean", "max"] = "mean"
    attention: CrossAttention | None = CrossAttention()
    preserve: Preserve | None = None
    region: RegionOfInterest | None = None

    @property
    def selects(self) -> bool:
        """Whether what counts in a step depends on all its losses."""
        return self.reduce == "max" or self.preserve is not None


class Reference(Part):
    """Numerics of the reference's training script that are not fields elsewhere; all off by default."""

    rate_returns: bool = False  # 1: a later phase's rate lasts one step, then the first phase's returns
    hard_start: bool = False  # 4: the momentum network's first update is a copy
    clip_skips_words: bool = False  # 7: embeddings are not clipped


class Recipe(Part):
    """All that a run depends on beside the base and the pair."""

    method: str
    phases: tuple[Phase, ...] = Field(min_length=1)
    train: tuple[Trainable, ...] = Field((LoRA(), PseudoWords()), min_length=1)
    # --- what a step looks at, and what it says
    references: int | None = Field(None, ge=1)  # the first so many images of each sample; None: all
    batch: int | None = Field(None, ge=1, le=10_000)  # images drawn for a step; None: the whole pair
    union: bool = False  # a step's pictures show random subsets of the samples: two or more cut out, on a plain ground
    prompt: str = "a photo of {}"  # {} is what a sample is called
    component_prompt: str | None = None  # another for components; {concept} is the concept's label
    templates: tuple[str, ...] = ()  # drawn from in training instead
    called: str = "{word}"  # a sample in a prompt, of {word} and {label}
    component_called: str | None = None  # another for components
    rare_words: tuple[str, ...] = ()  # pseudo-words begin as these, one a sample; none: as their labels
    augment: Augment = Augment()
    prior: Prior | None = None
    # --- how it counts
    masked: Literal["mask", "whole", "off"] = "mask"  # mean over the mask, over the whole tensor, or unmasked
    context: ContextMask | None = None
    stratified_times: bool = False
    # --- how it is optimised
    rate_factor: float = Field(1.0, gt=0)  # times all rates: a small base wants others than the published ones
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(1e-2, ge=0)
    clip: float | None = Field(1.0, gt=0)  # the gradient's length at most
    redraw: int = Field(1, ge=1, le=1000)  # degraded pixels are drawn, and encoded, anew every so many steps
    micro_batch: int | None = Field(None, ge=1)  # images a forward; None: all
    checkpointing: bool = False  # gradient checkpointing
    # --- how it draws
    guidance: float = Field(7.5, ge=0, le=100)  # of previews, and the default of generate
    sampling_steps: int = Field(50, ge=1, le=1000)
    base_steps: int = Field(
        0, ge=0, le=999
    )  # the first so many are the base's own, with labels for pseudo-words (CLiC)
    preview_every: int = Field(100, ge=0)  # 0: none
    seed: int = Field(0, ge=0, lt=2**32)
    reference: Reference = Reference()

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    @property
    def kinds(self) -> set[str]:
        """Of what is trained."""
        return {part.kind for part in self.train}

    @property
    def lora_scale(self) -> float:
        """alpha / rank of its LoRA; 1 where it has none."""
        return next((p.alpha / p.rank for p in self.train if isinstance(p, LoRA) and p.alpha is not None), 1.0)

    def phase(self, step: int) -> Phase:
        return self.phases[self.phase_at(step)]

    def first_step(self, number: int) -> int:
        """Of a phase."""
        return sum(phase.steps for phase in self.phases[:number])

    def phase_at(self, step: int) -> int:
        """The number of the phase that step ``step`` (0 .. steps - 1) belongs to."""
        for number, phase in enumerate(self.phases):
            step -= phase.steps
            if step < 0:
                return number
        raise AssertionError("step past the end")

    _holds_the_word = field_validator("prompt")(with_the_word)

    @field_validator("component_prompt")
    @classmethod
    def _holds_the_word_if_given(cls, prompt: str | None) -> str | None:
        return None if prompt is None else with_the_word(prompt)

    @field_validator("templates")
    @classmethod
    def _hold_the_word(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(with_the_word, templates))

    @field_validator("called", "component_called")
    @classmethod
    def _names_the_word(cls, called: str | None) -> str | None:
        names = ["word"] if called is None else fields_of(called) or []
        if names.count("word") != 1 or set(names) - {"word", "label"}:
            raise ValueError("write {word} once, and {label} if the label goes with it")
        return called

    @field_validator("train")
    @classmethod
    def _each_once(cls, train: tuple[Trainable, ...]) -> tuple[Trainable, ...]:
        kinds = [part.kind for part in train]
        if len(set(kinds)) < len(kinds) or {"pseudo-words", "embedding-matrix"} <= set(kinds):
            raise ValueError("name each part once, and either pseudo-words or embedding-matrix")
        if len(OF_THE_DENOISER & set(kinds)) > 1:
            raise ValueError("train one of lora, cross-attention and denoiser")
        return train

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if any(p.preserve for p in self.phases) and not OF_THE_DENOISER & self.kinds:
            raise ValueError("preserve holds the denoiser's trained weights: add a LoRA to train, or set preserve=none")
        drawn = self.batch is not None or self.union
        if drawn and any(p.selects for p in self.phases):
            raise ValueError("DS-Bal compares all samples in each step: leave out batch and union, or preserve and max")
        if self.redraw > 1 and (drawn or self.augment.scale):
            raise ValueError("redraw keeps the pictures of a whole pair: leave out batch, union and augment.scale")
        for number, phase in enumerate(self.phases):
            if phase.train is not None and not set(phase.train) <= self.kinds:
                raise ValueError(
                    f"phases.{number}.train: only what the recipe trains ({', '.join(sorted(self.kinds))})"
                )
        if len({p.attention.blocks for p in self.phases if p.attention}) > 1:
            raise ValueError("attention.blocks: one for all phases")
        if self.base_steps and not {"cross-attention", "denoiser"} & self.kinds:
            raise ValueError(
                "base_steps puts the denoiser's own weights back for a while: only where those are trained"
            )
        if self.base_steps >= self.sampling_steps:
            raise ValueError("base_steps: fewer than sampling_steps, or nothing of the run is drawn")
        return self

    def dump(self) -> dict[str, Any]:
        return self.model_dump(mode="json")
