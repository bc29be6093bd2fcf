"""What the judge says of a picture, read off its map: a thing's attributes are the votes of its pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from magictailor.world.embedded import SIZE
from magictailor.world.judge import Judge, Opinion
from magictailor.world.labels import (
    DISTANCES,
    FILTERS,
    MEAN_SIZE,
    NOTHING,
    PLACES,
    SHADES,
    SIZE_SPREAD,
    THINGS,
    Floats,
)
from magictailor.world.scene import CATEGORIES, PATTERNS, STYLES
from magictailor.world.truth import cielab

GROUPS = (NOTHING, *CATEGORIES, *STYLES)  # things without their styles
COLORED = 3  # pixels that make a colour
FOUND = 8  # pixels of 64 x 64, from which on a thing is there
_GROUP_OF = torch.tensor([GROUPS.index(name.split()[-1]) for name in THINGS])


@dataclass(frozen=True)
class Seen:
    """A thing as judged: its ``name`` in `THINGS`, where it is, its colours in CIELAB (by shade, those that are seen), its pattern, and
    its proportions (three of a concept, one of a component; 1 is the average)."""

    name: str
    mask: NDArray[np.bool_]
    colors: dict[str, Floats]
    pattern: str
    sizes: Floats


@dataclass(frozen=True)
class Judgement:
    """``things`` by category and kind of component; ``features`` [320], of unit length."""

    place: str
    filter: str
    distance: str
    things: dict[str, Seen]
    features: Floats

    @property
    def category(self) -> str | None:
        """Of the largest body."""
        bodies = [name for name in CATEGORIES if name in self.things]
        return max(bodies, key=lambda name: int(self.things[name].mask.sum()), default=None)


def grouped(things: Tensor) -> Tensor:
    """Logits of `THINGS` [N, classes, H, W] to probabilities of `GROUPS`."""
    shares = things.softmax(1)
    out = torch.zeros(len(shares), len(GROUPS), *shares.shape[2:], dtype=shares.dtype)
    return out.index_add_(1, _GROUP_OF, shares)


def _seen(group: int, inside: NDArray[np.bool_], opinion: Opinion, lab: Floats) -> Seen:
    """``opinion`` of one picture, ``inside`` the pixels of this group."""
    region = torch.from_numpy(inside)
    votes = opinion.things.softmax(0)[:, region].sum(1)
    votes[group != _GROUP_OF] = -1
    shade = opinion.shades.argmax(0).numpy()
    colors = {}
    for number, name in enumerate(SHADES[:-1]):
        pixels = lab[inside & (shade == number)]
        if len(pixels) >= COLORED and (name != "skin" or GROUPS[group] == "person"):
            colors[name] = np.median(pixels, 0).astype(np.float32)
    sizes = (opinion.sizes[:, region].mean(1) * SIZE_SPREAD + MEAN_SIZE).numpy()
    pattern = PATTERNS[int(opinion.patterns.softmax(0)[:, region].sum(1).argmax())]
    return Seen(
        THINGS[int(votes.argmax())], inside, colors, pattern, sizes[:3] if group <= len(CATEGORIES) else sizes[3:]
    )


def _judgement(opinion: Opinion, image: NDArray[np.uint8]) -> Judgement:
    lab, groups = cielab(image).astype(np.float32), grouped(opinion.things[None])[0].argmax(0).numpy()
    things = {}
    for number, name in enumerate(GROUPS[1:], 1):
        inside = groups == number
        if inside.sum() >= FOUND:
            things[name] = _seen(number, inside, opinion, lab)
    features = opinion.features.numpy()
    return Judgement(
        PLACES[int(opinion.place.argmax())],
        FILTERS[int(opinion.filter.argmax())],
        DISTANCES[int(opinion.distance.argmax())],
        things,
        features / np.linalg.norm(features),
    )


@torch.no_grad()
def judged(network: Judge, images: Sequence[Image.Image | NDArray[np.uint8]], batch: int = 32) -> list[Judgement]:
    """What the judge says of each picture; pictures of another size are scaled to the world's."""
    arrays = [np.asarray(_sized(image)) for image in images]
    out = []
    for start in range(0, len(arrays), batch):
        stack = np.stack(arrays[start : start + batch])
        pixels = torch.from_numpy(stack).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        opinions = network(pixels)
        out += [_judgement(Opinion(*(head[i] for head in opinions)), stack[i]) for i in range(len(stack))]
    return out


def _sized(image: Image.Image | NDArray[np.uint8]) -> Image.Image:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image = image.convert("RGB")
    return image if image.size == (SIZE, SIZE) else image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
