"""The object in a picture, cut out: by a mask, by the world's judge, or by rembg."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magictailor.attachments.specs import read_region
from magictailor.common.errors import InputError, check_choice

BACKGROUNDS = ("auto", "judge", "rembg", "keep")
SMALLEST, MARGIN = 0.005, 0.12  # of the picture's area; of the square's side, around the object


def _by_judge(picture: Image.Image) -> NDArray[np.uint8]:
    from magictailor.segmentation.embedded import Embedded
    from magictailor.world.catalog import CATEGORIES

    found = Embedded().find(picture, Path("picture"), CATEGORIES)
    masks = [region.mask for regions in found.values() for region in regions]
    shape = picture.size[::-1]
    return ((np.max(masks, 0) if masks else np.zeros(shape)) * 255).astype(np.uint8)


def _by_rembg(picture: Image.Image) -> NDArray[np.uint8]:
    try:
        import rembg
    except ImportError as error:
        raise InputError(
            "needs rembg to remove the background",
            "run `pip install 'rembg[cpu]'`, give a mask, or choose background judge or keep",
            field="background",
        ) from error
    return np.asarray(rembg.remove(picture, only_mask=True).convert("L"))


def cut_out(picture: Image.Image, background: str, embedded: bool, mask: Path | str | None, name: str) -> Image.Image:
    """A square RGBA around the object in a picture, transparent elsewhere.

    Args:
        background: auto, judge, rembg, or keep, which takes the whole picture; auto is the judge for pictures of the
            ``embedded`` base and rembg for all others.
        mask: white on the object, in the picture's size; instead of ``background``.
        name: the picture's, for errors.

    Raises:
        InputError: nothing is found in it, or what removes the background is not installed.
    """
    check_choice(background, BACKGROUNDS, "background")
    if mask is not None:
        alpha = np.asarray(read_region(mask, picture, name))
    elif background == "keep":
        alpha = np.full(picture.size[::-1], 255, np.uint8)
    else:
        judged = background == "judge" or (background == "auto" and embedded)
        alpha = _by_judge(picture) if judged else _by_rembg(picture)
    if (alpha > 127).mean() < SMALLEST:
        raise InputError(f"{name}: no object was found in it", "give a mask, or background keep", field="background")
    cut = picture.convert("RGB").copy()
    cut.putalpha(Image.fromarray(alpha))
    box = Image.fromarray(((alpha > 127) * 255).astype(np.uint8)).getbbox()
    assert box is not None
    side = round(max(box[2] - box[0], box[3] - box[1]) / (1 - 2 * MARGIN))
    square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    inner = cut.crop(box)
    square.paste(inner, ((side - inner.width) // 2, (side - inner.height) // 2))
    return square
