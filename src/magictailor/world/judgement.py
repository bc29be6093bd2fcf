"""The judge's judgement of an image: its subjects with their variants and colours, its context, treatment and view.

Each variant has a probability, its belief. Colours are not predicted, but measured from the pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from magictailor.world.colors import Floats, median_color
from magictailor.world.judge import Judge, Prediction, class_probabilities, shares_of
from magictailor.world.labels import (
    BODIES,
    COMPONENTS,
    CONTEXT_NAMES,
    HEADS,
    IDENTITY_HEADS,
    TREATMENT_NAMES,
    VARIANT_HEADS,
    VIEW_NAMES,
)
from magictailor.world.pixels import to_pixels
from magictailor.world.render import SIZE

VERSION = 2  # raised when the same weights give other judgements: benches then score their images anew
COMPONENT_AREA = 24  # fewest pixels of 128 x 128 of a component
BODY_AREA = 100  # and of a body
Cell = tuple[str, str]  # a category and one of its kinds of component


@dataclass(frozen=True)
class SeenComponent:
    """A component in an image. ``mask`` bool [S, S]; ``color`` CIELAB [3]; ``belief``: probabilities of its kind's variants."""

    category: str
    kind: str
    mask: NDArray[np.bool_]
    color: Floats
    belief: Floats

    @property
    def variant(self) -> str:
        return HEADS[VARIANT_HEADS[self.category, self.kind]].classes[int(self.belief.argmax())]


@dataclass(frozen=True)
class SeenConcept:
    """A body in an image. ``mask`` bool [S, S], without components; ``color`` CIELAB [3]; ``beliefs``: probabilities of
    the variants of each identity part."""

    category: str
    mask: NDArray[np.bool_]
    color: Floats
    beliefs: Mapping[str, Floats]

    def variant(self, part: str) -> str:
        """The most likely variant of an identity part."""
        return HEADS[IDENTITY_HEADS[self.category, part]].classes[int(self.beliefs[part].argmax())]


@dataclass(frozen=True)
class Judgement:
    """``concepts`` by category, ``components`` by category and kind; ``features`` [D], of unit length."""

    context: str
    treatment: str
    view: str
    concepts: Mapping[str, SeenConcept]
    components: Mapping[Cell, SeenComponent]
    features: Floats

    @property
    def category(self) -> str | None:
        """The category of the largest body."""
        return max(self.concepts, key=lambda name: int(self.concepts[name].mask.sum()), default=None)

    def component(self, kind: str) -> SeenComponent | None:
        """The largest component of this kind, of any category."""
        candidates = [c for c in self.components.values() if c.kind == kind]
        return max(candidates, key=lambda c: int(c.mask.sum()), default=None)


class Reading:
    """Finds subjects in one image uint8 [S, S, 3] by its ``classes`` [S, S] and ``beliefs`` [heads, ANSWERS]."""

    def __init__(self, image: NDArray[np.uint8], classes: NDArray[np.uint8], beliefs: Floats) -> None:
        self.image, self.classes, self.beliefs = image, classes, beliefs
        self.areas = np.bincount(classes.reshape(-1))

    def region(self, number: int, min_area: int) -> tuple[NDArray[np.bool_], Floats] | None:
        """The mask of a class and its colour; None if it has fewer pixels than ``min_area``."""
        if number >= len(self.areas) or self.areas[number] < min_area:
            return None
        mask = self.classes == number
        color = median_color(self.image, mask)
        assert color is not None
        return mask, color

    def belief(self, head: int) -> Floats:
        return self.beliefs[head, : len(HEADS[head].classes)]

    def concepts(self) -> dict[str, SeenConcept]:
        found = {}
        for category, number in BODIES.items():
            region = self.region(number, BODY_AREA)
            if region is not None:
                beliefs = {part: self.belief(i) for (name, part), i in IDENTITY_HEADS.items() if name == category}
                found[category] = SeenConcept(category, *region, beliefs)
        return found

    def components(self) -> dict[Cell, SeenComponent]:
        found = {}
        for cell, number in COMPONENTS.items():
            region = self.region(number, COMPONENT_AREA)
            if region is not None:
                found[cell] = SeenComponent(*cell, *region, self.belief(VARIANT_HEADS[cell]))
        return found


def _numpy(tensor: Tensor) -> NDArray[np.generic]:
    return tensor.cpu().numpy()


def _judgements(network: Judge, images: NDArray[np.uint8]) -> list[Judgement]:
    """Judgements of images uint8 [N, S, S, 3]."""
    device = next(network.parameters()).device
    pixels = to_pixels(torch.from_numpy(images).to(device))
    prediction: Prediction = network(pixels)
    probabilities = class_probabilities(prediction, pixels)
    beliefs = _numpy(network.answers(prediction, shares_of(probabilities)).softmax(-1))
    classes = _numpy(probabilities.argmax(1).to(torch.uint8))
    image_heads = prediction.context, prediction.treatment, prediction.view
    context, treatment, view = (_numpy(head.argmax(1)) for head in image_heads)
    features = _numpy(torch.nn.functional.normalize(prediction.features))
    out = []
    for i, image in enumerate(images):
        reading = Reading(image, classes[i], beliefs[i])
        names = CONTEXT_NAMES[context[i]], TREATMENT_NAMES[treatment[i]], VIEW_NAMES[view[i]]
        out.append(Judgement(*names, reading.concepts(), reading.components(), features[i]))
    return out


@torch.no_grad()
def judged(network: Judge, images: Sequence[Image.Image | NDArray[np.uint8]], batch: int = 32) -> list[Judgement]:
    """The judgement of each image; images of other sizes are scaled to the world's."""
    arrays = [np.asarray(_resize(image)) for image in images]
    return [
        judgement
        for start in range(0, len(arrays), batch)
        for judgement in _judgements(network, np.stack(arrays[start : start + batch]))
    ]


def _resize(image: Image.Image | NDArray[np.uint8]) -> Image.Image:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image = image.convert("RGB")
    return image if image.size == (SIZE, SIZE) else image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
