"""The world's judge as a segmenter. It knows the world's categories and kinds of component, and nothing else."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.loading import to_square, upsample
from magictailor.segmentation.regions import Region, bounding_box
from magictailor.world.catalog import CATALOG, CATEGORIES, KINDS
from magictailor.world.judge import class_probabilities, load_judge
from magictailor.world.labels import BODIES, CLASSES, COMPONENTS, NOTHING
from magictailor.world.render import SIZE

HALF = (0.5, 0.5, 0.5)
# Variants that captions name without their kind: ``crown``.
_BARE = {word: kind.name for c in CATALOG.values() for kind in c.kinds if kind.bare for word in kind.variants.values()}


def match_label(label: str) -> str:
    """The category or kind that a label's last word names.

    ``curly hair`` is hair, ``ear`` is one of the ears, and ``crown``, a variant with a word of its own, is an accessory.

    Raises:
        InputError: the world has no such category or kind.
    """
    text = label.lower().strip()
    last = text.split()[-1] if text else ""
    for name in (last, f"{last}s", last.removesuffix("s")):
        if name in CATEGORIES or name in KINDS:
            return name
    kinds = [kind for word, kind in _BARE.items() if last and word.split()[-1] == last]
    if kinds:
        return kinds[0]
    known = ", ".join((*CATEGORIES, *KINDS))
    raise InputError(f"{label}: not in the embedded world, which has {known}", "choose another segmentation model")


def class_indices(name: str) -> list[int]:
    """Indices of the pixel classes (`magictailor.world.labels.CLASSES`) that show a category or a kind of component.

    A category has all classes but "nothing" and the other bodies: its components belong to it.
    """
    if name in BODIES:
        excluded = {CLASSES.index(NOTHING), *BODIES.values()} - {BODIES[name]}
        return [i for i in range(len(CLASSES)) if i not in excluded]
    return [number for (_, kind), number in COMPONENTS.items() if kind == name]


class Embedded(Segmenter):
    """Shipped with the package. The region of a category is the whole subject with its components."""

    def __init__(self) -> None:
        self.network = load_judge()

    @torch.no_grad()
    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        names = {word: match_label(word) for word in words}
        pixels = to_square(image, SIZE, HALF, HALF)
        probabilities = upsample(class_probabilities(self.network(pixels), pixels)[0], image.size)
        found = {}
        for word, name in names.items():
            own = class_indices(name)
            probability = probabilities[own].sum(0)
            rival = probabilities[[i for i in range(len(CLASSES)) if i not in own]].max(0)
            mask = probability / (probability + rival).clip(1e-6)  # 0.5 where the best other class is as likely
            inside = mask > 0.5
            score = float(probability[inside].mean()) if inside.any() else float(probability.max())
            has_body = name not in BODIES or float(probabilities[BODIES[name]].max()) > 0.5
            found[word] = [Region(score, bounding_box(mask), mask)] if has_body and inside.any() else []
        return found
