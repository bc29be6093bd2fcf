"""Masks without weights: GrabCut (Rother 2004) inside a box that the user gives."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.regions import Box, Floats, Region, box_of

ROUNDS = 8
LARGEST = 640
RING = 0.1  # of the box's longer side: what lies farther away is not looked at, it may be more of the same thing


def _around(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box and a ring around it, in whole pixels inside the picture."""
    ring = max(4.0, RING * max(box[2] - box[0], box[3] - box[1]))
    left, top = max(0, int(box[0] - ring)), max(0, int(box[1] - ring))
    return left, top, min(size[0], int(box[2] + ring)), min(size[1], int(box[3] + ring))


def grabcut(image: Image.Image, box: Box) -> Floats:
    """What stands out inside the box from what lies in a ring around it: [H, W], 0 .. 1.

    Raises:
        InputError: opencv is not installed, or the box leaves no background to learn from.
    """
    box = inner_box(box, image.size)
    left, top, right, bottom = _around(box, image.size)
    part = image.crop((left, top, right, bottom))
    scale = min(1.0, LARGEST / max(part.size))  # its cost grows with the pixels, what it finds does not
    small = part.resize((max(1, round(part.width * scale)), max(1, round(part.height * scale))))
    shifted = [(v - o) * scale for v, o in zip(box, (left, top, left, top), strict=True)]
    found = _cut(small, (shifted[0], shifted[1], shifted[2], shifted[3]))
    whole = np.zeros((image.height, image.width))
    whole[top:bottom, left:right] = np.asarray(Image.fromarray(255 * found).resize(part.size), np.float64) / 255
    return whole


def _cut(image: Image.Image, box: Box) -> NDArray[np.uint8]:
    """GrabCut itself: [H, W], 0 or 1."""
    try:
        import cv2
    except ImportError as error:
        raise InputError("GrabCut needs opencv: pip install 'magictailor[masks]' (opencv-python-headless)") from error
    left, top, right, bottom = inner_box(box, image.size)
    labels = np.full((image.height, image.width), cv2.GC_BGD, np.uint8)
    labels[top:bottom, left:right] = cv2.GC_PR_FGD
    if (labels != cv2.GC_BGD).all():  # the box is the picture: its edge is all the background that there is
        labels[[0, -1]], labels[:, [0, -1]] = cv2.GC_BGD, cv2.GC_BGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    pixels = np.ascontiguousarray(np.asarray(image)[..., ::-1])
    cv2.grabCut(pixels, labels, (0, 0, 0, 0), *models, ROUNDS, cv2.GC_INIT_WITH_MASK)  # the box is in the labels
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)


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
    """The box in whole pixels of the picture.

    Raises:
        InputError: nothing of the picture is inside.
    """
    left, top = int(box[0]), int(box[1])
    right, bottom = (round(min(end, side)) for end, side in zip(box[2:], size, strict=True))
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
