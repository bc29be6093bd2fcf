"""What a unit's pictures are scored by: each metric behind one small interface."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from magictailor.data import Pair
from magictailor.world.pairs import WorldPair

WHOLE = ("", -1)  # prompt and seed of a figure of all pictures together


@dataclass(frozen=True)
class Subject:
    """What pictures are of: the pair with its references and masks, the run's words, and the truth, if it is of the world.

    ``cache``: a folder for vectors of pictures that metrics want to keep.
    """

    pair: Pair
    words: Sequence[str]
    world: WorldPair | None = None
    cache: Path | None = None


@dataclass(frozen=True)
class Drawn:
    """A picture, and what it was drawn for."""

    prompt: str
    seed: int
    image: Image.Image


@dataclass(frozen=True)
class Figure:
    """A number about a picture, or, with prompt and seed of `WHOLE`, about a unit's pictures together."""

    prompt: str
    seed: int
    name: str
    value: float


class Metric(Protocol):
    """``model``: what exactly judges; scores by another are made anew. ``higher``: whether more is better, by figure."""

    @property
    def model(self) -> str: ...

    @property
    def higher(self) -> dict[str, bool]: ...

    def prepare(self) -> None:
        """Load the model. Raises InputError where it is not there; the line says how to get it."""
        ...

    def score(self, subject: Subject, pictures: Sequence[Drawn]) -> Iterator[Figure]:
        """Figures of a unit's pictures; none of those to which the metric does not apply."""
        ...
