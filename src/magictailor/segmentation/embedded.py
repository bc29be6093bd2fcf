"""The world's judge as a segmenter: knows its categories and kinds of component, and nothing else."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from magictailor.errors import InputError
from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.loading import enlarged, square
from magictailor.segmentation.regions import Region, box_of
from magictailor.world.embedded import SIZE
from magictailor.world.judge import load_judge
from magictailor.world.judgement import GROUPS, grouped
from magictailor.world.scene import CATEGORIES

HALF = (0.5, 0.5, 0.5)


def class_of(word: str) -> str:
    """The class that a label's last word names: ``long hair`` is hair, an ``ear`` is one of the ears.

    Raises:
        InputError: the world has no such thing.
    """
    last = word.lower().split()[-1] if word.split() else ""
    for name in (last, f"{last}s", last.removesuffix("s")):
        if name in GROUPS[1:]:
            return name
    raise InputError(f"{word}: not of the drawn world, which has {', '.join(GROUPS[1:])}; choose another --model")


class Embedded(Segmenter):
    """Shipped with the package. A category's region is the whole thing, its components too."""

    def __init__(self) -> None:
        self.network = load_judge()

    @torch.no_grad()
    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        classes = {word: class_of(word) for word in words}
        shares = enlarged(grouped(self.network(square(image, SIZE, HALF, HALF)).things)[0], image.size)
        found = {}
        for word, name in classes.items():
            number = GROUPS.index(name)
            of_it = 1 - shares[0] if name in CATEGORIES else shares[number]
            rival = shares[0] if name in CATEGORIES else np.delete(shares, number, 0).max(0)
            share = of_it / (of_it + rival)  # half where another class is as likely, however many there are
            inside = share > 0.5
            score = float(of_it[inside].mean()) if inside.any() else float(of_it.max())
            sure = name not in CATEGORIES or float(shares[number].max()) > 0.5
            found[word] = [Region(score, box_of(share), share)] if sure and np.any(inside) else []
        return found
