"""A run is a `Recipe`: plain typed data, JSON in and out. Methods return one, ablations change a field."""

import difflib
import json
import reprlib
from string import Formatter
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from magictailor.errors import InputError


class Part(BaseModel):
    """Base of all parts: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# --- what is trained


class LoRA(Part):
    """Low-rank adapters on the backbone's LoRA targets; ``alpha`` equals the rank unless given."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(32, ge=1, le=1024)
    alpha: float | None = Field(None, gt=0)


class PseudoWords(Part):
    """The pseudo-words' embedding rows, and no other row; ``rate`` times the phase's rate."""

    kind: Literal["pseudo-words"] = "pseudo-words"
    rate: float = Field(1.0, gt=0)


class EmbeddingMatrix(Part):
    """The whole embedding matrix, as the reference trains (and decays) it: its defect 2."""

    kind: Literal["embedding-matrix"] = "embedding-matrix"


Trainable = Annotated[LoRA | PseudoWords | EmbeddingMatrix, Field(discriminator="kind")]


# --- what happens outside the mask


class DMDeg(Part):
    """Dynamic Masked Degradation, equations 4 and 5, and its ablations by schedule."""

    kind: Literal["dm-deg"] = "dm-deg"
    schedule: Literal["dynamic", "fixed", "ascending", "descending"] = "dynamic"
    alpha: float = Field(0.5, ge=0)
    gamma: float = Field(32.0, gt=0)
    clamp: bool = False  # the reference clamps pixels to [-1, 1] afterwards: its defect 6


class MaskOut(Part):
    """Grey outside the mask."""

    kind: Literal["mask-out"] = "mask-out"


class Untouched(Part):
    """The images as they are."""

    kind: Literal["none"] = "none"


Degradation = Annotated[DMDeg | MaskOut | Untouched, Field(discriminator="kind")]


# --- the losses


class CrossAttention(Part):
    """Equation 2. ``weight`` holds at full mask area; it is divided by the pair's mean area under mask means."""

    weight: float = Field(1e-2, ge=0)


class Preserve(Part):
    """Equation 7. ``regulariser``: what the samples that are not the worst are held to.

    momentum: average of the online network with ``decay``; frozen: as it was after the warm-up;
    last-step: as it was one step ago.
    """

    weight: float = Field(0.2, ge=0)
    regulariser: Literal["momentum", "frozen", "last-step"] = "momentum"
    decay: float = Field(0.99, ge=0, lt=1)


class Augment(Part):
    """Brightness, contrast and saturation within 1 +- jitter; horizontal flip with a probability."""

    jitter: float = Field(0.1, ge=0, lt=1)
    flip: float = Field(0.5, ge=0, le=1)
    shared: bool = False  # one draw for all images of a step, as the reference does: its defect 3


class Phase(Part):
    """A stretch of the run with one loss and one rate.

    The loss is ``reduce`` over samples of the (masked) diffusion loss, plus the other terms that are given.
    """

    steps: int = Field(ge=1, le=10_000_000)
    lr: float = Field(gt=0)
    lr_per_image: bool = True  # times the number of images in a step, by the paper's appendix
    degradation: Degradation = DMDeg()
    reduce: Literal["mean", "max"] = "mean"
    attention: CrossAttention | None = CrossAttention()
    preserve: Preserve | None = None

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
    prompt: str = "a photo of {}"  # {} is the sample's pseudo-word
    augment: Augment = Augment()
    masked: Literal["mask", "whole", "off"] = "mask"  # mean over the mask, over the whole tensor, or unmasked
    stratified_times: bool = False
    weight_decay: float = Field(1e-2, ge=0)
    clip: float = Field(1.0, gt=0)
    redraw: int = Field(1, ge=1, le=1000)  # degraded pixels are drawn, and encoded, anew every so many steps
    micro_batch: int | None = Field(None, ge=1)  # images a forward; None: all
    checkpointing: bool = False  # gradient checkpointing
    guidance: float = Field(7.5, ge=0, le=100)  # of previews, and the default of generate
    sampling_steps: int = Field(50, ge=1, le=1000)
    preview_every: int = Field(100, ge=0)  # 0: none
    seed: int = Field(0, ge=0, lt=2**32)
    reference: Reference = Reference()

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    @property
    def lora_scale(self) -> float:
        """alpha / rank of its LoRA; 1 where it has none."""
        return next((p.alpha / p.rank for p in self.train if isinstance(p, LoRA) and p.alpha is not None), 1.0)

    def phase(self, step: int) -> Phase:
        return self.phases[self.phase_at(step)]

    def phase_at(self, step: int) -> int:
        """The number of the phase that step ``step`` (0 .. steps - 1) belongs to."""
        for number, phase in enumerate(self.phases):
            step -= phase.steps
            if step < 0:
                return number
        raise AssertionError("step past the end")

    @field_validator("prompt")
    @classmethod
    def _holds_the_word(cls, prompt: str) -> str:
        """Without {} the pseudo-word would be in no prompt."""
        try:
            fields = [(name, spec, how) for _, name, spec, how in Formatter().parse(prompt) if name is not None]
        except ValueError:
            fields = []
        if fields != [("", "", None)]:
            raise ValueError("write {} once, where the pseudo-word goes")
        return prompt

    @field_validator("train")
    @classmethod
    def _each_once(cls, train: tuple[Trainable, ...]) -> tuple[Trainable, ...]:
        kinds = [part.kind for part in train]
        if len(set(kinds)) < len(kinds) or {"pseudo-words", "embedding-matrix"} <= set(kinds):
            raise ValueError("name each part once, and either pseudo-words or embedding-matrix")
        return train

    @model_validator(mode="after")
    def _preserves_something(self) -> Self:
        if any(p.preserve for p in self.phases) and not any(isinstance(part, LoRA) for part in self.train):
            raise ValueError("preserve holds the denoiser's trained weights: add a LoRA to train, or set preserve=none")
        return self

    def dump(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


def _keys(value: Any, path: str = "") -> list[str]:
    """All settable keys: ``phases.0.lr``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return [path]
    inner = [key for k, v in items for key in _keys(v, f"{path}.{k}" if path else str(k))]
    return [*([path] if path else []), *inner]


def _assign(tree: Any, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    if isinstance(tree, list):
        tree[int(last)] = value
    else:
        tree[last] = value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # a byte that is no UTF-8 comes as a surrogate, which JSON cannot hold
        return None if text.lower() == "none" else text.encode(errors="replace").decode()


def with_settings(recipe: Recipe, settings: list[str]) -> Recipe:
    """``key=value`` settings applied: ``phases.1.lr=1e-5``, ``train.0.rank=16``, ``phases.1.preserve=none``.

    Raises:
        InputError: an unknown key (the nearest known one is named) or a value out of range.
    """
    tree = recipe.dump()
    for setting in settings:
        key, equals, text = setting.partition("=")
        known = _keys(tree)
        if not equals:
            raise InputError(f"--set {setting}: write key=value, for instance seed=1")
        if key == "method":
            raise InputError(f"--set {setting}: choose a method with --method")
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.3) or ["seed"]
            raise InputError(f"--set {setting}: unknown key {key!r}; the nearest known one is {near[0]!r}")
        _assign(tree, key, _parsed(text))
    return recipe_from(tree)


def recipe_from(tree: Any) -> Recipe:
    """A recipe from its JSON form. Raises InputError, see `part_from`."""
    return part_from(Recipe, tree)


AnyPart = TypeVar("AnyPart", bound=Part)


def part_from(kind: type[AnyPart], tree: Any) -> AnyPart:
    """A recipe, or a part of one, from its JSON form.

    Raises:
        InputError: the first field that is unknown, missing or out of range.
    """
    try:
        return kind.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        got = reprlib.repr(first["input"])
        raise InputError(f"recipe: {where}: {first['msg']} (got {got})") from error
