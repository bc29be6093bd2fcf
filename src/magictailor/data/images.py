"""Image files of any kind to RGB, and RGB with a mask to the square that a model trains on."""

import glob
import re
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from magictailor.common.errors import InputError

EXTENSIONS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))
# Photos that we cannot read, and so must not skip silently.
FOREIGN = frozenset((".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".nef", ".arw", ".psd"))
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # by content; keeps Ghostscript and the like out
MAX_PIXELS = 100_000_000
MIN_SIDE = 16
MAX_SIDE = 4096
MASK_NOISE = 12  # of 255; darker than this is compression noise in a mask, not something to train


def is_image_file(path: Path) -> bool:
    """Whether this is a file named as a reference image: a known extension, not hidden, not a mask."""
    if path.name.startswith(".") or path.stem.endswith("-masklabel"):
        return False
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def natural(path: Path) -> tuple[tuple[int, str], ...]:
    """A sort key that puts ``a2`` before ``a10``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name)
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)


def image_files(folder: Path) -> list[Path]:
    """The images directly in ``folder``, in natural order; captions, hidden files and masks are left out.

    Raises:
        InputError: the folder cannot be listed, or holds photos of a kind that we cannot read.
    """
    try:
        files = sorted((entry for entry in folder.iterdir() if entry.is_file()), key=natural)
        lost = [e for e in folder.iterdir() if e.suffix.lower() in EXTENSIONS and not (e.is_file() or e.is_dir())]
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror}): check its permissions") from error
    if lost:
        raise InputError(f"{lost[0]} cannot be opened (a link to nothing, or not a file): mend or remove it")
    for file in files:
        if file.suffix.lower() in FOREIGN and not file.name.startswith("."):
            raise InputError(f"{file} is of a kind that cannot be read: save it as JPEG or PNG, or remove it")
    return [file for file in files if is_image_file(file)]


def expand(folder: Path, pattern: str) -> list[Path]:
    """The file of that name, or the images that the glob finds, in natural order (``*.jpg`` finds A.JPG too).

    Raises:
        InputError: there is no such image.
    """
    if (folder / pattern).is_file():
        return [folder / pattern]
    stem, dot, extension = pattern.rpartition(".")
    either = re.sub("[A-Za-z]", lambda match: f"[{match[0].lower()}{match[0].upper()}]", extension)
    loose = stem + dot + either if dot else pattern
    found = [folder / name for name in glob.glob(loose, root_dir=folder, recursive=True)]
    images = [path for path in found if is_image_file(path) and path.parent.name != "masks"]
    if not images:
        raise InputError(f"no image is found as {folder / pattern}: the path starts at the TOML, correct it")
    return sorted(images, key=natural)


def read_picture(path: Path) -> Image.Image:
    """The decoded picture, turned as its EXIF says, of at most 8 bits a channel, in whatever mode it has.

    Raises:
        InputError: no such file, not an image, truncated, over 100 megapixels, or a side below 16 pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd files; what matters is raised
            with Image.open(path, formats=FORMATS) as picture:
                _check_size(path, *picture.size)  # from the header, before any pixel is decoded
                return _eight_bit(path, ImageOps.exif_transpose(picture))
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has more than 100 megapixels: scale it down first") from error
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: check the path") from error
    except PermissionError as error:
        raise InputError(f"{path} cannot be opened: check its permissions") from error
    except Exception as error:  # on broken data Pillow's decoders raise nearly anything
        raise InputError(
            f"{path} is not a readable image (broken, cut short, or another kind of file): "
            "save it anew as JPEG or PNG, or remove it"
        ) from error


def load_image(path: Path | str) -> tuple[Image.Image, Image.Image | None]:
    """The image as RGB, and its alpha channel as L (255 opaque), or None if it is opaque everywhere.

    Transparent parts are composited on white. JPEG, PNG, WebP, BMP, GIF (first frame) and TIFF, told apart by
    content; EXIF orientation applied; 16-bit grey scaled to 8 bits.

    Raises:
        InputError: see `read_picture`.
    """
    path = Path(path)
    picture = read_picture(path)
    if not picture.has_transparency_data:
        return _converted(path, picture, "RGB"), None
    transparent = _converted(path, picture, "RGBA")
    alpha = transparent.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return transparent.convert("RGB"), None
    white = Image.new("RGBA", transparent.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, transparent).convert("RGB"), alpha


def load_grey(path: Path | str) -> Image.Image:
    """A mask file as L, 0..255; where the file is transparent it counts as black.

    Raises:
        InputError: see `read_picture`.
    """
    path = Path(path)
    picture = read_picture(path)
    if not picture.has_transparency_data:
        return _converted(path, picture, "L")
    painted = _converted(path, picture, "RGBA")
    black = Image.new("RGBA", painted.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, painted).convert("L")


def fit_square(image: Image.Image, mask: Image.Image, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The square around the mask, scaled to ``size``: pixels [size, size, 3] and mask [size, size] in 0..1.

    The square's side is the picture's shorter side, or as much more as the mask's bounding box needs. It lies
    as centred on the mask as the picture allows. Where it leaves the picture, edge pixels are repeated and
    the mask is 0. ``image`` is RGB and ``mask`` L, of one size.
    """
    if image.size != mask.size:
        raise ValueError(f"image is {image.size}, mask {mask.size}")
    if (longest := max(image.size)) > MAX_SIDE:  # the square of a very long picture would not fit into memory
        smaller = (max(1, image.width * MAX_SIDE // longest), max(1, image.height * MAX_SIDE // longest))
        image, mask = image.resize(smaller, Image.Resampling.LANCZOS), mask.resize(smaller, Image.Resampling.BOX)
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
    """Where a span of ``side`` starts to be centred on low..high, inside 0..length as far as it can be."""
    slack = length - side
    return max(min(0, slack), min(max(0, slack), (low + high - side) // 2))


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(f"{path} is {width} x {height}, more than 100 megapixels: scale it down first")
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{path} is {width} x {height}: use an image of at least {MIN_SIDE} pixels a side")


def _eight_bit(path: Path, picture: Image.Image) -> Image.Image:
    """Deep grey scaled to 0..255; Pillow's own conversion would clip everything above 255 to white."""
    if picture.mode == "F" or (picture.mode == "I" and not _is_16_bit(picture)):
        raise InputError(f"{path} has 32 bits a channel: save it with 8 or 16 bits")
    if not picture.mode.startswith("I"):
        return picture
    deep = np.asarray(picture).astype(np.float32)
    return Image.fromarray(np.rint(deep / 257).astype(np.uint8))


def _is_16_bit(picture: Image.Image) -> bool:
    values = np.asarray(picture)
    return bool(values.min() >= 0 and values.max() <= 65535)


def _converted(path: Path, picture: Image.Image, mode: str) -> Image.Image:
    try:
        return picture.convert(mode)
    except ValueError as error:
        raise InputError(f"{path} has the colour mode {picture.mode}: save it as RGB") from error
