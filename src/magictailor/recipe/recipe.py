"""A run as plain typed data: phases, what is trained, and the parts that all phases share."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from magictailor.recipe.config import ConfigModel
from magictailor.recipe.losses import CrossAttention, Degradation, DMDeg, Loss, Preserve, RegionOfInterest
from magictailor.recipe.parts import Data, Optimisation, Prompts, ReferenceQuirks, Sampling
from magictailor.recipe.trainables import Kind, LoRA, PseudoWords, Trainable

OF_THE_DENOISER = {"lora", "cross-attention", "denoiser"}


class Phase(ConfigModel):
    """A number of steps with one loss and one learning rate.

    The loss is the diffusion loss, reduced over samples (mean: equation 3; max: equation 6), plus the terms given.
    """

    steps: int = Field(ge=1, le=10_000_000)
    lr: float = Field(gt=0)
    lr_per_image: bool = Field(
        True, description="times the number of the pair's images in a step, by the paper's appendix; at most 6"
    )
    train: tuple[Kind, ...] | None = Field(None, description="which of the recipe's trainables; None: all")
    new_optimizer: bool = Field(False, description="start with an optimizer without memory")
    degradation: Degradation = DMDeg()
    reduce: Literal["mean", "max"] = "mean"
    attention: CrossAttention | None = CrossAttention()
    preserve: Preserve | None = None
    region: RegionOfInterest | None = None

    @property
    def selects(self) -> bool:
        """Whether a sample's weight in the loss depends on the losses of all samples."""
        return self.reduce == "max" or self.preserve is not None


class Recipe(ConfigModel):
    """All that a run depends on, apart from the base and the pair."""

    method: str
    phases: tuple[Phase, ...] = Field(min_length=1)
    train: tuple[Trainable, ...] = Field((LoRA(), PseudoWords()), min_length=1)
    data: Data = Data()
    prompts: Prompts = Prompts()
    loss: Loss = Loss()
    optimisation: Optimisation = Optimisation()
    sampling: Sampling = Sampling()
    quirks: ReferenceQuirks = ReferenceQuirks()
    seed: int = Field(0, ge=0, lt=2**32)

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    @property
    def kinds(self) -> set[str]:
        """The kinds of the trainables."""
        return {trainable.kind for trainable in self.train}

    @property
    def lora_scale(self) -> float:
        """alpha / rank of the LoRA; 1 without one."""
        return next((p.alpha / p.rank for p in self.train if isinstance(p, LoRA) and p.alpha is not None), 1.0)

    @property
    def attention(self) -> CrossAttention | None:
        """The attention loss of the first phase that has one; None: no phase has. All read the same layers."""
        return next((phase.attention for phase in self.phases if phase.attention), None)

    def phase(self, step: int) -> Phase:
        return self.phases[self.phase_at(step)]

    def first_step(self, number: int) -> int:
        """The first step of phase ``number``."""
        return sum(phase.steps for phase in self.phases[:number])

    def phase_at(self, step: int) -> int:
        """The number of the phase of step ``step``, 0 .. steps - 1."""
        for number, phase in enumerate(self.phases):
            step -= phase.steps
            if step < 0:
                return number
        raise AssertionError("step past the end")

    @field_validator("train")
    @classmethod
    def _check_trainables(cls, train: tuple[Trainable, ...]) -> tuple[Trainable, ...]:
        kinds = [trainable.kind for trainable in train]
        if len(set(kinds)) < len(kinds) or {"pseudo-words", "embedding-matrix"} <= set(kinds):
            raise ValueError("name each kind once, and either pseudo-words or embedding-matrix")
        if len(OF_THE_DENOISER & set(kinds)) > 1:
            raise ValueError("train one of lora, cross-attention and denoiser")
        return train

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if any(p.preserve for p in self.phases) and not OF_THE_DENOISER & self.kinds:
            raise ValueError(
                "preserve needs trained weights of the denoiser: add a LoRA to train, or set preserve=none"
            )
        drawn = self.data.batch is not None or self.data.collage
        if drawn and any(p.selects for p in self.phases):
            raise ValueError(
                "DS-Bal compares all samples in each step: leave out data.batch and data.collage, or preserve and max"
            )
        if self.data.resample_every > 1 and (drawn or self.data.augment.scale):
            raise ValueError(
                "data.resample_every keeps the images of a whole pair: leave out data.batch, data.collage and augment.scale"
            )
        if self.loss.matched_times and drawn:
            raise ValueError(
                "loss.matched_times compares the images of a whole pair: leave out data.batch and data.collage"
            )
        for number, phase in enumerate(self.phases):
            if phase.train is not None and not set(phase.train) <= self.kinds:
                raise ValueError(
                    f"phases.{number}.train: only what the recipe trains ({', '.join(sorted(self.kinds))})"
                )
        if len({(p.attention.blocks, p.attention.over) for p in self.phases if p.attention}) > 1:
            raise ValueError("attention.blocks and attention.over: the same for all phases")
        if self.sampling.base_steps and not {"cross-attention", "denoiser"} & self.kinds:
            raise ValueError("sampling.base_steps: only for recipes that train the denoiser's own weights")
        if self.sampling.base_steps >= self.sampling.steps:
            raise ValueError("sampling.base_steps: fewer than sampling.steps, or nothing trained is used")
        return self

    def dump(self) -> dict[str, Any]:
        return self.model_dump(mode="json")
