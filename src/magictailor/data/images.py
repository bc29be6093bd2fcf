"""Image files of any kind to RGB, and an image with its mask to the square that a model trains on."""

import glob
import re
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from magictailor.common.errors import InputError

EXTENSIONS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))
# Photos of these kinds are refused: skipping them silently would train on too few.
UNSUPPORTED = frozenset((".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".nef", ".arw", ".psd"))
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # told by content; without EPS, which would start Ghostscript
MAX_PIXELS = 100_000_000
MIN_SIDE = 16
MAX_SIDE = 4096
MASK_NOISE = 12  # of 255; a mask's pixels up to this are compression noise


def is_image_file(path: Path) -> bool:
    """Whether this is a file named as a reference image: a known extension, not hidden, not a mask."""
    if path.name.startswith(".") or path.stem.endswith("-masklabel"):
        return False
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def natural_order(path: Path) -> tuple[tuple[int, str], ...]:
    """A sort key that puts ``a2`` before ``a10``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name)
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)


def image_files(folder: Path) -> list[Path]:
    """The images directly in ``folder``, in natural order; captions, hidden files and masks are ignored.

    Raises:
        InputError: the folder cannot be listed, or holds photos of an unsupported kind.
    """
    try:
        files = sorted((entry for entry in folder.iterdir() if entry.is_file()), key=natural_order)
        dangling = [e for e in folder.iterdir() if e.suffix.lower() in EXTENSIONS and not (e.is_file() or e.is_dir())]
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})", "check its permissions") from error
    if dangling:
        raise InputError(f"{dangling[0]}: cannot be opened (a link to nothing, or not a file)", "repair or remove it")
    for file in files:
        if file.suffix.lower() in UNSUPPORTED and not file.name.startswith("."):
            raise InputError(f"{file}: cannot read this kind of image", "save it as JPEG or PNG, or remove it")
    return [file for file in files if is_image_file(file)]


def expand(folder: Path, pattern: str) -> list[Path]:
    """The file of that name, or all images that match the glob, in natural order (``*.jpg`` finds A.JPG too).

    Raises:
        InputError: no image is found.
    """
    if (folder / pattern).is_file():
        return [folder / pattern]
    stem, dot, extension = pattern.rpartition(".")
    any_case = re.sub("[A-Za-z]", lambda match: f"[{match[0].lower()}{match[0].upper()}]", extension)
    loose = stem + dot + any_case if dot else pattern
    found = [folder / name for name in glob.glob(loose, root_dir=folder, recursive=True)]
    images = [path for path in found if is_image_file(path) and path.parent.name != "masks"]
    if not images:
        raise InputError(f"{folder / pattern}: no such image", "correct the path; it starts at the TOML's folder")
    return sorted(images, key=natural_order)


def decode_image(path: Path) -> Image.Image:
    """The decoded image with EXIF orientation applied, at most 8 bits per channel, in its own colour mode.

    Raises:
        InputError: no such file, not an image, truncated, over 100 megapixels, or a side below 16 pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd files; errors are raised
            with Image.open(path, formats=FORMATS) as image:
                _check_size(path, *image.size)  # from the header, before any pixel is decoded
                return _eight_bit(path, ImageOps.exif_transpose(image))
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: more than 100 megapixels", "scale it down first") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: does not exist", "check the path") from error
    except PermissionError as error:
        raise InputError(f"{path}: cannot be opened", "check its permissions") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on broken data
        raise InputError(
            f"{path}: not a readable image (broken, cut short, or another kind of file)",
            "save it again as JPEG or PNG, or remove it",
        ) from error


def load_image(path: Path | str) -> tuple[Image.Image, Image.Image | None]:
    """The image as RGB, and its alpha channel as L (255 = opaque); None if all of it is opaque.

    Reads JPEG, PNG, WebP, BMP, GIF (first frame) and TIFF by content. Transparent parts are composited on white, EXIF
    orientation is applied, and 16-bit grey is scaled to 8 bits.

    Raises:
        InputError: see `decode_image`.
    """
    path = Path(path)
    image = decode_image(path)
    if not image.has_transparency_data:
        return _converted(path, image, "RGB"), None
    transparent = _converted(path, image, "RGBA")
    alpha = transparent.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return transparent.convert("RGB"), None
    white = Image.new("RGBA", transparent.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, transparent).convert("RGB"), alpha


def load_grey(path: Path | str) -> Image.Image:
    """A mask file as L, 0..255. Transparent pixels are black.

    Raises:
        InputError: see `decode_image`.
    """
    path = Path(path)
    image = decode_image(path)
    if not image.has_transparency_data:
        return _converted(path, image, "L")
    transparent = _converted(path, image, "RGBA")
    black = Image.new("RGBA", transparent.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, transparent).convert("L")


def scaled_down(image: Image.Image, mask: Image.Image) -> tuple[Image.Image, Image.Image]:
    """An image and its mask, of one size, with sides of at most `MAX_SIDE` pixels; as they are if they are smaller."""
    if (longest := max(image.size)) <= MAX_SIDE:
        return image, mask
    smaller = (max(1, image.width * MAX_SIDE // longest), max(1, image.height * MAX_SIDE // longest))
    return image.resize(smaller, Image.Resampling.LANCZOS), mask.resize(smaller, Image.Resampling.BOX)


def fit_square(image: Image.Image, mask: Image.Image, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Crop a square around the mask and scale it: pixels [size, size, 3] in 0..255, mask [size, size] in 0..1.

    The square's side is the image's shorter side, or the longer side of the mask's bounding box if that is larger. It
    is centred on the mask as far as the image allows. Outside the image, edge pixels are repeated and the mask is 0.

    Args:
        image: RGB.
        mask: L, of the image's size.
    """
    if image.size != mask.size:
        raise ValueError(f"image is {image.size}, mask {mask.size}")
    image, mask = scaled_down(image, mask)  # the square of a very long image would not fit into memory
    box = mask.point(lambda value: 255 * (value > MASK_NOISE)).getbbox() or (0, 0, *image.size)
    side = max(min(image.size), box[2] - box[0], box[3] - box[1])
    left = _start(box[0], box[2], side, image.width)
    top = _start(box[1], box[3], side, image.height)

    crop = (max(left, 0), max(top, 0), min(left + side, image.width), min(top + side, image.height))
    pads = ((crop[1] - top, top + side - crop[3]), (crop[0] - left, left + side - crop[2]))
    pixels = np.pad(np.asarray(image.crop(crop)), (*pads, (0, 0)), mode="edge")
    weight = np.pad(np.asarray(mask.crop(crop), dtype=np.float32) / 255, pads)

    # The mask is averaged as floats, so that a pixel's weight is the exact share of it that was white.
    small = Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
    soft = Image.fromarray(weight).resize((size, size), Image.Resampling.BOX)
    return np.array(small, dtype=np.uint8), np.array(soft, dtype=np.float32).clip(0, 1)


def _start(low: int, high: int, side: int, length: int) -> int:
    """The start of a span of ``side`` centred on low..high, and inside 0..length as far as possible."""
    slack = length - side
    return max(min(0, slack), min(max(0, slack), (low + high - side) // 2))


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(f"{path}: {width} x {height}, more than 100 megapixels", "scale it down first")
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{path}: only {width} x {height}", f"use an image of at least {MIN_SIDE} pixels per side")


def _eight_bit(path: Path, image: Image.Image) -> Image.Image:
    """16-bit grey scaled to 0..255. Pillow's own conversion would clip all above 255 to white."""
    if image.mode == "F" or (image.mode == "I" and not _is_16_bit(image)):
        raise InputError(f"{path}: 32 bits per channel", "save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    deep = np.asarray(image).astype(np.float32)
    return Image.fromarray(np.rint(deep / 257).astype(np.uint8))


def _is_16_bit(image: Image.Image) -> bool:
    values = np.asarray(image)
    return bool(values.min() >= 0 and values.max() <= 65535)


def _converted(path: Path, image: Image.Image, mode: str) -> Image.Image:
    try:
        return image.convert(mode)
    except ValueError as error:
        raise InputError(f"{path}: unsupported colour mode {image.mode}", "save it as RGB") from error
