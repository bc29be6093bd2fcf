"""Reading the images of a bench."""

from pathlib import Path

from PIL import Image

from magictailor.common.errors import InputError
from magictailor.data.images import decode_image
from magictailor.evaluate.records import FIX


def read_image(path: Path) -> Image.Image:
    """A generated or a true image, RGB. Raises InputError for a damaged one."""
    try:
        return decode_image(path).convert("RGB")
    except InputError as error:
        raise InputError(error.problem, FIX) from error
