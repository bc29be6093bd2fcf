"""The interface of a scorer: it reads a unit's images and yields the values of one or more metrics."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from magictailor.data import Pair
from magictailor.world.pairs import WorldPair

WHOLE = ("", -1)  # prompt and seed of a score of all images together


@dataclass(frozen=True)
class Target:
    """What images are scored against: the pair with its photos and masks, and the run's pseudo-words.

    ``world``: the pair's ground truth, if it is of the world. ``cache``: a folder where scorers keep embeddings of images.
    """

    pair: Pair
    words: Sequence[str]
    world: WorldPair | None = None
    cache: Path | None = None


@dataclass(frozen=True)
class ScoredImage:
    """An image, and the prompt and seed it was generated from."""

    prompt: str
    seed: int
    image: Image.Image


@dataclass(frozen=True)
class Score:
    """A metric's value of an image, or, with prompt and seed of `WHOLE`, of all images of a unit together."""

    prompt: str
    seed: int
    metric: str
    value: float


class Scorer(Protocol):
    """``model``: the exact model behind the scores; scores by another model are computed again.
    ``higher_is_better``: by metric."""

    @property
    def model(self) -> str: ...

    @property
    def higher_is_better(self) -> dict[str, bool]: ...

    def prepare(self) -> None:
        """Load the model. Raises InputError if it is not on this machine; the fix says how to get it."""
        ...

    def score(self, target: Target, images: Sequence[ScoredImage]) -> Iterator[Score]:
        """Yield the scores of a unit's images; metrics that do not apply to an image are left out."""
        ...
