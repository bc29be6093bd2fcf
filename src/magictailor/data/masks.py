"""Masks (white = train, black = ignore, grey = partial), and a reference image with its mask.

The mask of ``a.jpg`` is the first of ``masks/a.png``, ``a-masklabel.png`` next to the image, and its alpha channel.
If ``masks/a.hair.png`` exists and another sample is labelled "hair", it is subtracted from that mask.
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from magictailor.common.errors import InputError
from magictailor.data.images import EXTENSIONS, load_grey, scaled_down

EMPTY_BELOW = 128
STRIP = 256  # rows


@dataclass(frozen=True)
class ReferenceImage:
    """One reference image (RGB) and its mask (L, of the same size, white = train).

    A photo with a side above `MAX_SIDE` is kept scaled down, and its mask with it: six photos of a hundred megapixels
    would take gigabytes. ``size`` and ``digest`` are the file's.
    """

    path: Path
    image: Image.Image = field(compare=False, repr=False)
    mask: Image.Image = field(compare=False, repr=False)
    digest: str  # sha256 of size, pixels and mask
    size: tuple[int, int]  # width, height

    @classmethod
    def of(cls, path: Path, image: Image.Image, mask: Image.Image) -> "ReferenceImage":
        """Computes the digest; ``path`` need not exist (a rendered image has none)."""
        if (image.mode, mask.mode) != ("RGB", "L") or image.size != mask.size:
            raise ValueError(f"expected RGB and L of one size, not {image} and {mask}")
        content = hashlib.sha256(repr(image.size).encode())
        for picture in (image, mask):
            for top in range(0, image.height, STRIP):  # in strips, since a whole copy of a large photo is large too
                content.update(picture.crop((0, top, image.width, min(top + STRIP, image.height))).tobytes())
        return cls(path, *scaled_down(image, mask), content.hexdigest(), image.size)

    @cached_property
    def coverage(self) -> float:
        """The mask's mean, 0..1: the share of the image that is trained."""
        return float(np.asarray(self.mask).mean()) / 255


def files_of_stem(folder: Path, stem: str) -> list[Path]:
    """The image files in ``folder`` with exactly this stem; none if there is no such folder."""
    return [file for file in _files(folder, stem) if file.stem == stem]


def mask_files(image: Path, folder: Path) -> list[Path]:
    """The files that could be the image's mask: its stem in ``folder``, else ``{stem}-masklabel`` next to it."""
    return files_of_stem(folder, image.stem) or files_of_stem(image.parent, f"{image.stem}-masklabel")


def find_mask(image: Path, folder: Path, alpha: Image.Image | None) -> Path | Image.Image:
    """The mask file of ``image``, see `mask_files`; else ``alpha``.

    Raises:
        InputError: no mask, or two files could be the mask.
    """
    found = mask_files(image, folder)
    if len(found) > 1:
        raise InputError(f"{found[0]}: {found[1].name} could also be the mask of {image.name}", "keep one")
    if found:
        return found[0]
    if alpha is None:
        raise InputError(
            f"{image}: no mask",
            f"add {folder / image.stem}.png (white = train), or {image.stem}-masklabel.png next to the image, "
            "or give the image an alpha channel",
        )
    return alpha


def find_excluded(image: Path, folder: Path, labels: Sequence[str], stems: Collection[str]) -> list[Path]:
    """The files ``{stem}.{label}`` in ``folder``: masks of other samples on this image.

    Args:
        labels: of the other samples.
        stems: of all images, since an image's name may contain a dot.

    Raises:
        InputError: a file with an unknown label.
    """
    excluded = []
    for file in _files(folder, f"{image.stem}."):
        if not file.stem.startswith(f"{image.stem}.") or file.stem in stems:
            continue
        name = file.stem.removeprefix(f"{image.stem}.")
        if _plain(name) not in map(_plain, labels):
            known = " or ".join(f"{image.stem}.{label}{file.suffix}" for label in labels)
            raise InputError(
                f"{file}: no other sample has this label",
                f"rename it to {known}, or remove it" if known else "remove it",
            )
        excluded.append(file)
    return excluded


def read_mask(path: Path, image: Path, size: tuple[int, int]) -> Image.Image:
    """The mask file as L, of the image's (width, height).

    Raises:
        InputError: unreadable, or of another size than the image.
    """
    mask = load_grey(path)
    if mask.size == size:
        return mask
    found, wanted = (f"{width} x {height}" for width, height in (mask.size, size))
    if mask.size == size[::-1]:
        fix = "rotate the mask as the photo is shown: it lacks the photo's EXIF rotation"
    else:
        fix = "make the mask the same size as the image"
    raise InputError(f"{path}: is {found} but {image.name} is {wanted}", fix)


def mask_of(
    image: Path, size: tuple[int, int], found: Path | Image.Image, excluded: Sequence[Path] = ()
) -> Image.Image:
    """The final mask of ``image`` as L: ``found`` (a file or an alpha channel) minus the ``excluded`` masks.

    Raises:
        InputError: unreadable, of another size, empty, or empty after the subtraction.
    """
    mask = read_mask(found, image, size) if isinstance(found, Path) else found
    source = str(found) if isinstance(found, Path) else f"{image} (alpha channel)"
    if _brightest(mask) < EMPTY_BELOW:
        raise InputError(
            f"{source}: an empty mask (at most {_brightest(mask)} of 255)", "paint the region to be learned in white"
        )
    mask = without(mask, (read_mask(path, image, size) for path in excluded))
    if _brightest(mask) < EMPTY_BELOW:
        names = ", ".join(path.name for path in excluded)
        raise InputError(f"{source}: nothing is left after subtracting {names}", "correct one of these masks")
    return mask


def without(mask: Image.Image, removed: Iterable[Image.Image]) -> Image.Image:
    """``mask`` minus each of ``removed``, clipped at 0; all L and of one size."""
    for other in removed:
        mask = ImageChops.subtract(mask, other)
    return mask


def _files(folder: Path, beginning: str) -> list[Path]:
    """The image files directly in the folder whose names begin so, by name; none if there is no such folder."""
    if not folder.is_dir():
        return []
    names = sorted(name for name in os.listdir(folder) if name.startswith(beginning) and not name.startswith("."))
    return [file for file in map(folder.joinpath, names) if file.suffix.lower() in EXTENSIONS and file.is_file()]


def _plain(label: str) -> str:
    return label.lower().replace("_", " ").replace("-", " ")


def _brightest(mask: Image.Image) -> int:
    return max(value for value, count in enumerate(mask.histogram()) if count)
