"""Masks without weights: GrabCut (Rother 2004) inside a box that the user gives."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.regions import Box, Floats, Region, bounding_box

ITERATIONS = 8
LARGEST = 640  # pixels: larger images are scaled down, which costs no quality and saves time
RING = 0.1  # of the box's longer side: pixels farther away are ignored, they may show more of the same subject


def _with_ring(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box and a ring around it, in whole pixels inside the image."""
    ring = max(4.0, RING * max(box[2] - box[0], box[3] - box[1]))
    left, top = max(0, int(box[0] - ring)), max(0, int(box[1] - ring))
    return left, top, min(size[0], int(box[2] + ring)), min(size[1], int(box[3] + ring))


def grabcut(image: Image.Image, box: Box) -> Floats:
    """The foreground inside the box, [H, W], 0 .. 1; a ring around the box is the background.

    Raises:
        InputError: opencv is not installed, or the box lies outside the image.
    """
    box = clip_box(box, image.size)
    left, top, right, bottom = _with_ring(box, image.size)
    crop = image.crop((left, top, right, bottom))
    scale = min(1.0, LARGEST / max(crop.size))
    small = crop.resize((max(1, round(crop.width * scale)), max(1, round(crop.height * scale))))
    shifted = [(v - o) * scale for v, o in zip(box, (left, top, left, top), strict=True)]
    found = _cut(small, (shifted[0], shifted[1], shifted[2], shifted[3]))
    whole = np.zeros((image.height, image.width))
    whole[top:bottom, left:right] = np.asarray(Image.fromarray(255 * found).resize(crop.size), np.float64) / 255
    return whole


def _cut(image: Image.Image, box: Box) -> NDArray[np.uint8]:
    """GrabCut inside a box: [H, W], 0 or 1."""
    left, top, right, bottom = clip_box(box, image.size)
    possible = np.zeros((image.height, image.width), bool)
    possible[top:bottom, left:right] = True
    return cut(image, possible)


def cut(
    image: Image.Image,
    possible: NDArray[np.bool_],
    sure: NDArray[np.bool_] | None = None,
    never: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """GrabCut itself: the foreground, [H, W], 0 or 1.

    Args:
        possible: [H, W], where the foreground may be.
        sure, never: where it is, and where it is not, whatever the colours say.

    Raises:
        InputError: opencv is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise InputError(
            "GrabCut: opencv is not installed", "run `pip install 'magictailor[masks]'` (opencv-python-headless)"
        ) from error
    labels = np.where(possible, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    if (labels != cv2.GC_BGD).all():  # everything is possible: use the image's edge as the background
        labels[[0, -1]], labels[:, [0, -1]] = cv2.GC_BGD, cv2.GC_BGD
    if sure is not None:
        labels[sure] = cv2.GC_FGD
    if never is not None:
        labels[never] = cv2.GC_BGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    pixels = np.ascontiguousarray(np.asarray(image)[..., ::-1])
    cv2.grabCut(pixels, labels, (0, 0, 0, 0), *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)  # the box is in the labels
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)


class GrabCut(Segmenter):
    """``boxes``: ``{(file, label): box}``; ``""`` stands for an image's own label.

    A file is given by its name, or by the end of its path where two folders have a file of that name.
    """

    def __init__(self, boxes: Mapping[tuple[str, str], Box]) -> None:
        self.boxes = boxes

    def check(self, images: Mapping[Path, Image.Image], labels: Sequence[str]) -> None:
        for (file, label), box in self.boxes.items():
            matching = [path for path in images if _matches(path, file)]
            if len(matching) != 1:
                found = ", ".join(str(p) for p in matching) or "none"
                raise InputError(
                    f"{file}: matches {found} of the pair's images",
                    "give one file, with more of its path",
                    field="boxes",
                )
            if label and label not in labels:
                raise InputError(
                    f"{file}:{label}: no sample has this label", f"choose one of {', '.join(labels)}", field="boxes"
                )
            clip_box(box, images[matching[0]].size)

    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        found: dict[str, list[Region]] = {}
        given = {label: box for (file, label), box in self.boxes.items() if _matches(path, file)}
        for number, word in enumerate(words):
            box = given.get(word, given.get("") if number == 0 else None)
            if box is not None:
                mask = grabcut(image, box)
                found[word] = [Region(1.0, bounding_box(mask), mask)] if mask.any() else []
        return found


def _matches(path: Path, file: str) -> bool:
    return path.parts[-len(Path(file).parts) :] == Path(file).parts


def clip_box(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in whole pixels, cut at the image's edges.

    Raises:
        InputError: no part of the image is inside.
    """
    left, top = int(box[0]), int(box[1])
    right, bottom = (round(min(end, side)) for end, side in zip(box[2:], size, strict=True))
    if right - left < 2 or bottom - top < 2:
        numbers = ",".join(f"{v:g}" for v in box)
        raise InputError(
            f"{numbers}: nothing of a {size[0]} x {size[1]} image is inside", "give a box within it", field="boxes"
        )
    return left, top, right, bottom


def read_box(text: str) -> tuple[tuple[str, str], Box]:
    """``photo.jpg=10,20,200,180``, or with another sample's label ``photo.jpg:hair=10,20,90,60``.

    Raises:
        InputError: the text has another form.
    """
    name, _, numbers = text.rpartition("=")
    file, _, label = name.partition(":")
    try:
        left, top, right, bottom = (float(v) for v in numbers.split(","))
    except ValueError:
        left = top = right = bottom = 0.0
    if not file or not (0 <= left < right and 0 <= top < bottom):
        raise InputError(
            f"{text}: not a box",
            "write FILE=left,top,right,bottom in pixels, for instance 0_cat_1.jpg=40,30,300,420",
            field="boxes",
        )
    return (file, label), (left, top, right, bottom)
