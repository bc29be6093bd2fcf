"""What a trial took: seconds, memory, bytes, images seen; and what its results depend on. One JSON file for each trial."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from magictailor.common.files import write_json
from magictailor.common.records import read_record
from magictailor.data import Pair
from magictailor.evaluate.records import FIX
from magictailor.recipe import LoRA, PseudoWords, Recipe


class _Read(BaseModel):
    """Part of a file that is read back. Unknown keys are a later version's."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, extra="ignore")


class Timed(_Read):
    """A number of images, and the seconds that they took, with loading."""

    images: int = Field(0, ge=0)
    seconds: float = Field(0.0, ge=0)

    def plus(self, images: int, seconds: float) -> "Timed":
        return Timed(images=self.images + images, seconds=self.seconds + seconds)


class Cost(_Read):
    """``steps`` to ``recipe`` of the training, whatever has been generated; zeros where nothing is trained.

    seconds: of the training. peak_gb: on a card. bytes: of what a finished run is loaded from. images_seen: photos, with
    repetitions, that its steps have seen, prior images included. recipe: in words. generated, scored: so far. threads: of
    the CPU. of: what the results depend on, besides the method.
    """

    steps: int = Field(0, ge=0)
    seconds: float = Field(0.0, ge=0)
    peak_gb: float | None = Field(None, ge=0)
    bytes: int = Field(0, ge=0)
    images_seen: int | None = Field(None, ge=0)
    recipe: str = ""
    generated: Timed = Timed()
    scored: Timed = Timed()
    threads: int | None = None
    of: dict[str, Any] = Field(default_factory=dict)


def read_cost(path: Path) -> Cost | None:
    """None if the file does not exist. Raises InputError for a damaged file, or values of other types."""
    return read_record(Cost, path, FIX) if path.exists() else None


def write_cost(path: Path, cost: Cost) -> None:
    write_json(path, json.loads(cost.model_dump_json()))


def images_seen(recipe: Recipe, pair: Pair) -> int:
    """Photos that all steps of a run see, with repetitions; prior images count as well."""
    photos = sum(len(s.references[: recipe.data.references]) for s in pair.samples)
    return recipe.steps * (recipe.data.batch or photos) * (2 if recipe.loss.prior else 1)


def recipe_line(recipe: Recipe) -> str:
    """The recipe's budget, rates and emphasis in one line."""
    steps = " + ".join(str(phase.steps) for phase in recipe.phases)
    rates = " / ".join(f"{phase.lr * recipe.optimisation.lr_scale:g}" for phase in recipe.phases)
    images = f"{recipe.data.batch or 'all'} {'collages' if recipe.data.collage else 'photos'}"
    trained = {
        "lora": next((f"LoRA of rank {p.rank}" for p in recipe.train if isinstance(p, LoRA)), ""),
        "pseudo-words": next(
            (f"pseudo-words at {p.lr_scale:g} times the rate" for p in recipe.train if isinstance(p, PseudoWords)), ""
        ),
    }
    parts = [trained.get(part.kind) or part.kind for part in recipe.train]
    each = " times the photos" if any(phase.lr_per_image for phase in recipe.phases) else ""
    prior = f"; {recipe.loss.prior.images} prior images of each label" if recipe.loss.prior else ""
    emphasis = f"; emphasis {recipe.sampling.emphasis:g}" if recipe.sampling.emphasis else ""
    return f"{steps} steps of {images} at {rates}{each}; {', '.join(parts)}{prior}{emphasis}; seed {recipe.seed}"
