"""Masks without weights: GrabCut (Rother 2004) inside a box that the user gives."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from magictailor.errors import InputError
from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.regions import Box, Floats, Region, box_of

ROUNDS = 8
LARGEST = 640
MARGIN = 1  # pixels: GrabCut learns the background from what lies outside the box


def grabcut(image: Image.Image, box: Box) -> Floats:
    """What stands out inside the box from what lies outside: [H, W], 0 or 1.

    Raises:
        InputError: opencv is not installed, or the box leaves no background to learn from.
    """
    try:
        import cv2
    except ImportError as error:
        raise InputError("GrabCut needs opencv: pip install 'magictailor[masks]' (opencv-python-headless)") from error
    if (scale := LARGEST / max(image.size)) < 1:  # its cost grows with the pixels, what it finds does not
        small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        shrunk = (box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale)
        mask = Image.fromarray((255 * grabcut(small, shrunk)).astype(np.uint8)).resize(image.size)
        return np.asarray(mask, np.float64) / 255
    left, top, right, bottom = inner_box(box, image.size)
    width, height = image.size
    labels = np.zeros((height, width), np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    pixels = np.ascontiguousarray(np.asarray(image)[..., ::-1])
    cv2.grabCut(pixels, labels, (left, top, right - left, bottom - top), *models, ROUNDS, cv2.GC_INIT_WITH_RECT)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float64)


class GrabCut(Segmenter):
    """``boxes``: ``{(file, label): box}``; a picture's own label may be given as ``""``.

    A file is named by its name, or by the end of its path where two folders have one of that name.
    """

    def __init__(self, boxes: Mapping[tuple[str, str], Box]) -> None:
        self.boxes = boxes

    def check(self, pictures: Mapping[Path, Image.Image], labels: Sequence[str]) -> None:
        for (file, label), box in self.boxes.items():
            fitting = [path for path in pictures if _named(path, file)]
            if len(fitting) != 1:
                found = ", ".join(str(p) for p in fitting) or "none"
                raise InputError(f"--box {file}: fits {found} of the pair's pictures; name one, by more of its path")
            if label and label not in labels:
                raise InputError(f"--box {file}:{label}: no sample has this label; they are {', '.join(labels)}")
            inner_box(box, pictures[fitting[0]].size)

    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        found: dict[str, list[Region]] = {}
        given = {label: box for (file, label), box in self.boxes.items() if _named(path, file)}
        for number, word in enumerate(words):
            box = given.get(word, given.get("") if number == 0 else None)
            if box is not None:
                mask = grabcut(image, box)
                found[word] = [Region(1.0, box_of(mask), mask)] if mask.any() else []
        return found


def _named(path: Path, file: str) -> bool:
    return path.parts[-len(Path(file).parts) :] == Path(file).parts


def inner_box(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in whole pixels, with background around it.

    Raises:
        InputError: nothing of the picture is inside.
    """
    left, top = max(int(box[0]), MARGIN), max(int(box[1]), MARGIN)
    right, bottom = (round(min(end, side - MARGIN)) for end, side in zip(box[2:], size, strict=True))
    if right - left < 2 or bottom - top < 2:
        shown = ",".join(f"{v:g}" for v in box)
        raise InputError(f"--box {shown}: nothing of a {size[0]} x {size[1]} picture is inside")
    return left, top, right, bottom


def read_box(text: str) -> tuple[tuple[str, str], Box]:
    """``photo.jpg=10,20,200,180`` or, for another sample's part of that picture, ``photo.jpg:hair=10,20,90,60``.

    Raises:
        InputError: not four numbers of a box.
    """
    name, _, numbers = text.rpartition("=")
    file, _, label = name.partition(":")
    try:
        left, top, right, bottom = (float(v) for v in numbers.split(","))
    except ValueError:
        left = top = right = bottom = 0.0
    if not file or not (0 <= left < right and 0 <= top < bottom):
        raise InputError(
            f"--box {text}: write FILE=left,top,right,bottom in pixels, for instance 0_cat_1.jpg=40,30,300,420"
        )
    return (file, label), (left, top, right, bottom)
