"""Masks of a pair of the studio: saved whole, measured, and warned about."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.common.files import write_atomically
from magictailor.data.images import fit_square
from magictailor.data.masks import without as subtracted
from magictailor.studio.pair_file import MASKS, PHOTOS, label_name, photo_size
from magictailor.studio.pairs import PairStore
from magictailor.studio.uploads import decoded
from magictailor.studio.workspace import NotThere

VISIBLE = 0.1  # as in `magictailor.data.training_images`, which would import torch


def mask_path(folder: Path, photo: str, other: str | None = None) -> Path:
    """A photo's own mask, or that of another sample on this photo, which is taken away from it."""
    return (
        folder / MASKS / (f"{Path(photo).stem}.png" if other is None else f"{Path(photo).stem}.{label_name(other)}.png")
    )


def checked_other(store: PairStore, id: str, photo: str, other: str | None) -> str | None:
    """``other``, if a sample that the photo is not of has this label. Raises NotThere."""
    pair = store.read(id)
    number = pair.sample_of(photo)
    if other is not None and other not in [s.label for n, s in enumerate(pair.samples) if n != number]:
        raise NotThere(f"{other[:40]}: no other sample has this label", "reload the page")
    return other


def save_mask(
    store: PairStore, id: str, photo: str, content: bytes, *, without: str | None = None, trusted: bool = False
) -> float:
    """Save an image as the photo's mask, or as the mask of another sample (its label) on this photo.

    Returns:
        Its coverage, 0 .. 1.

    Raises:
        InputError: not an image, or of another size than the photo.
    """
    other = checked_other(store, id, photo, without)
    width, height = photo_size(store.photo(id, photo))
    with decoded("mask", content, trusted=trusted) as (found, work):
        if (found["width"], found["height"]) != (width, height):
            problem = f"the mask is {found['width']} x {found['height']}, the photo {width} x {height}"
            raise InputError(problem, "make the mask the same size as the photo")
        data = (work / "mask.png").read_bytes()
    write_atomically(mask_path(store.folder(id), photo, other), lambda path: path.write_bytes(data))
    return float(found["coverage"])


def remove_mask(store: PairStore, id: str, photo: str, *, without: str | None = None) -> None:
    """Nothing happens if there is none."""
    mask_path(store.folder(id), photo, checked_other(store, id, photo, without)).unlink(missing_ok=True)


def describe_masks(folder: Path, photo: str, others: Sequence[str], grids: Mapping[str, Any]) -> dict[str, Any]:
    """``coverage`` of the photo's mask without the others' (0 .. 1; None: no mask), ``without`` (labels that are taken
    away), and ``too_small`` (a warning, or an empty text)."""
    removed = [label for label in others if mask_path(folder, photo, label).exists()]
    paths = [mask_path(folder, photo), *(mask_path(folder, photo, label) for label in removed)]
    if not paths[0].exists():
        return {"coverage": None, "without": removed, "too_small": ""}
    stamps = tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in paths)
    key = tuple(sorted((name, size, tuple(map(tuple, sides))) for name, (size, sides) in grids.items()))
    coverage, warning = _measure(str(folder / PHOTOS / photo), stamps, key)
    return {"coverage": coverage, "without": removed, "too_small": warning}


@lru_cache(maxsize=2000)
def _measure(photo: str, stamps: tuple[tuple[str, int, int], ...], grids: tuple[Any, ...]) -> tuple[float, str]:
    try:
        first, *others = [Image.open(path).convert("L") for path, _, _ in stamps]
        mask = subtracted(first, others)
    except (OSError, ValueError):
        return 0.0, "its mask cannot be read"
    coverage = float(np.asarray(mask).mean()) / 255
    if coverage == 0 or not grids:
        return coverage, ""
    warnings = [too_small(mask, size, sides) for _, size, sides in grids]
    return coverage, next(filter(None, warnings), "")


def too_small(mask: Image.Image, size: int, sides: Sequence[Sequence[int]]) -> str:
    """A warning if nothing is left of the mask on a grid on which the losses read it; else an empty text.

    Args:
        size: of the base's images, pixels.
        sides: height and width of each grid.
    """
    smaller = max(1, max(mask.size) // 1024)  # as exact as needed for a warning, and fast on large photos
    small = mask.reduce(smaller) if smaller > 1 else mask
    _, weights = fit_square(Image.new("RGB", small.size), small, size)
    for height, width in sides:
        grid = np.asarray(Image.fromarray(weights).resize((width, height), Image.Resampling.BOX))
        if grid.max() < VISIBLE:
            return f"its mask is empty at the model's {height} x {width} resolution: crop closer, or paint more"
    return ""
