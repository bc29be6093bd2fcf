"""The parts of a recipe: data, prompts, optimisation, sampling; the loss is in `losses`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from magictailor.recipe.config import ConfigModel, check_optional_template, check_template, fields_of


class Augment(ConfigModel):
    """Brightness, contrast and saturation times 1 +- ``jitter`` (or only brightness); horizontal flip with a probability."""

    jitter: float = Field(0.1, ge=0, lt=1)
    only_brightness: bool = False
    flip: float = Field(0.5, ge=0, le=1)
    scale: bool = Field(
        False, description="Custom Diffusion: the image is made smaller or larger, and the prompt says so"
    )


class Data(ConfigModel):
    """Which images a step sees."""

    size: int | None = Field(
        None, ge=8, le=8192, description="the side of training images, pixels; None: the base's own"
    )
    references: int | None = Field(None, ge=1, description="the first N reference images of each sample; None: all")
    batch: int | None = Field(
        None, ge=1, le=10_000, description="images drawn at random for a step; None: all of the pair"
    )
    collage: bool = Field(
        False, description="Break-A-Scene: an image shows a random subset of the samples, cut out, side by side"
    )
    augment: Augment = Augment()
    resample_every: int = Field(1, ge=1, le=1000, description="steps that share augmented, degraded and encoded images")


class Prompts(ConfigModel):
    """The prompts of training, and what they call a sample."""

    template: str = Field("a photo of {}", description="{} is the sample's name; {concept} the concept's label")
    component_template: str | None = Field(None, description="for components; None: the same")
    templates: tuple[str, ...] = Field((), description="Textual Inversion: drawn from these instead")
    name: str = Field("{word}", description="of a sample in a prompt, from {word} and {label}")
    component_name: str | None = Field(None, description="for components; None: the same")
    initial_words: tuple[str, ...] = Field(
        (), description="rare words that pseudo-words start as, one per sample; none: their labels"
    )

    @field_validator("initial_words")
    @classmethod
    def _check_words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if not all(word.strip() for word in words) or len(set(words)) < len(words):
            raise ValueError('different words that are not empty, for instance ["sks", "ktn"]')
        return words

    _check_template = field_validator("template")(check_template)
    _check_component_template = field_validator("component_template")(check_optional_template)

    @field_validator("templates")
    @classmethod
    def _check_templates(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_template, templates))

    @field_validator("name", "component_name")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        names = ["word"] if name is None else fields_of(name) or []
        if names.count("word") != 1 or set(names) - {"word", "label"}:
            raise ValueError("write {word} once, and {label} if the label goes with it")
        return name


class Optimisation(ConfigModel):
    """The optimizer, and how a step's images are divided into forward passes.

    prodigy (Mishchenko 2023) finds the rate itself; a phase's lr multiplies what it finds, and 1 is right then.
    """

    optimizer: Literal["adamw", "prodigy"] = "adamw"
    lr_scale: float = Field(
        1.0, gt=0, description="times every phase's lr: a small base needs other rates than the published"
    )
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: float = Field(1e-2, ge=0)
    max_grad_norm: float | None = Field(1.0, gt=0)
    micro_batch: int | None = Field(None, ge=1, description="images per forward pass; None: all")
    checkpointing: bool = Field(False, description="gradient checkpointing")


class Sampling(ConfigModel):
    """How previews are generated; the default of `generate`."""

    steps: int = Field(50, ge=1, le=1000)
    guidance: float = Field(7.5, ge=0, le=100)
    emphasis: float = Field(
        0,
        ge=0,
        le=2,
        description="of components: where they are, guidance leads away from the prompt without them, and elsewhere towards it",
    )
    base_steps: int = Field(
        0, ge=0, le=999, description="CLiC: the first N steps are the base's own, with labels for pseudo-words"
    )
    preview_every: int = Field(100, ge=0, description="training steps; 0: no previews")
    keep_every: int = Field(
        0, ge=0, description="training steps between checkpoints to generate from; 0: only the end is kept"
    )


class ReferenceQuirks(ConfigModel):
    """Numerics of the paper's training script that its equations do not have, by the numbers of docs/methods.md."""

    lr_returns: bool = Field(False, description="1: a later phase's lr lasts one step, then the first phase's returns")
    shared_augmentation: bool = Field(False, description="3: all images of a step are augmented alike")
    hard_momentum_start: bool = Field(False, description="4: the momentum network's first update is a copy")
    clamp_degraded: bool = Field(False, description="6: degraded pixels are clamped to [-1, 1]")
    clip_skips_words: bool = Field(False, description="7: gradients of embeddings are not clipped")
