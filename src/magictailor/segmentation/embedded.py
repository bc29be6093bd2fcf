"""The world's judge as a segmenter: knows its categories and kinds of component, and nothing else."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.loading import enlarged, square
from magictailor.segmentation.regions import Region, box_of
from magictailor.world.catalog import CATALOG, CATEGORIES, KINDS
from magictailor.world.judge import load_judge
from magictailor.world.labels import BODIES, CLASSES, COMPONENTS, NOTHING
from magictailor.world.render import SIZE

HALF = (0.5, 0.5, 0.5)
# Variants that are called by a word of their own, without their kind: ``crown``.
_BARE = {word: kind.name for c in CATALOG.values() for kind in c.kinds if kind.bare for word in kind.variants.values()}


def name_of(words: str) -> str:
    """The category or kind that a label's last word names: ``curly hair`` is hair, an ``ear`` is one of the ears. A
    component that is called by its own word is of its kind: a ``crown`` is an accessory.

    Raises:
        InputError: the world has no such subject or component.
    """
    text = words.lower().strip()
    last = text.split()[-1] if text else ""
    for name in (last, f"{last}s", last.removesuffix("s")):
        if name in CATEGORIES or name in KINDS:
            return name
    alone = [kind for word, kind in _BARE.items() if last and word.split()[-1] == last]
    if alone:
        return alone[0]
    known = ", ".join((*CATEGORIES, *KINDS))
    raise InputError(f"{words}: not in the embedded world, which has {known}; choose another --model")


def classes_of(name: str) -> list[int]:
    """The classes of pixels (`magictailor.world.labels.CLASSES`) that show a category or a kind of component.

    A category's are all but nothing and the other bodies: whatever it wears is part of it.
    """
    if name in BODIES:
        return [
            i
            for i in range(len(CLASSES))
            if i == BODIES[name] or (i != CLASSES.index(NOTHING) and i not in BODIES.values())
        ]
    return [number for (_, kind), number in COMPONENTS.items() if kind == name]


class Embedded(Segmenter):
    """Shipped with the package. A category's region is the whole subject, its components too."""

    def __init__(self) -> None:
        self.network = load_judge()

    @torch.no_grad()
    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        names = {word: name_of(word) for word in words}
        shares = enlarged(self.network(square(image, SIZE, HALF, HALF)).classes.softmax(1)[0], image.size)
        found = {}
        for word, name in names.items():
            of_it = shares[classes_of(name)].sum(0)
            others = [i for i in range(len(CLASSES)) if i not in classes_of(name)]
            rival = shares[others].max(0)
            share = of_it / (of_it + rival).clip(1e-6)  # half where another class is as likely, however many there are
            inside = share > 0.5
            score = float(of_it[inside].mean()) if inside.any() else float(of_it.max())
            sure = name not in BODIES or float(shares[BODIES[name]].max()) > 0.5
            found[word] = [Region(score, box_of(share), share)] if sure and inside.any() else []
        return found
