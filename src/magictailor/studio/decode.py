"""Decoding of uploads, in a process that may die: ``python -m magictailor.studio.decode photo|mask SOURCE FOLDER``.

It prints one line of JSON. It has a limit of memory and of time, and gets nothing but the file.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from magictailor.common.errors import InputError
from magictailor.data.images import FORMATS, load_grey, load_image

MEMORY, SECONDS = 3 * 2**30, 40
THUMB = 512  # pixels
KEPT = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}  # browsers show these; others are saved anew as PNG


def decode_photo(source: Path, folder: Path) -> dict[str, Any]:
    """Write ``thumb.webp``, ``alpha.png`` if parts are transparent, and ``photo.png`` for kinds that browsers do not show.

    Returns:
        ``width``, ``height`` (as shown, EXIF rotation applied), ``extension``, ``kept`` (whether the file stays as it
        is), ``rotated``, ``alpha``.
    """
    image, alpha = load_image(source)
    with Image.open(source, formats=FORMATS) as opened:
        format, turned, frames = opened.format, opened.getexif().get(0x0112, 1), getattr(opened, "n_frames", 1)
    kept = format in KEPT and frames == 1
    if not kept:
        image.save(folder / "photo.png")
    if alpha is not None:
        alpha.save(folder / "alpha.png")
    small = image.copy()
    small.thumbnail((THUMB, THUMB), Image.Resampling.LANCZOS)
    small.save(folder / "thumb.webp", "WEBP", quality=82)
    extension = KEPT[str(format)] if kept else "png"
    return {
        "width": image.width, "height": image.height, "extension": extension, "kept": kept, "rotated": turned != 1,
        "alpha": alpha is not None,
    }  # fmt: skip


def decode_mask(source: Path, folder: Path) -> dict[str, Any]:
    """Write ``mask.png``, grey; returns ``width``, ``height`` and ``coverage`` (0 .. 1)."""
    mask = load_grey(source)
    mask.save(folder / "mask.png", compress_level=3)
    counts = mask.histogram()
    total = sum(value * count for value, count in enumerate(counts))
    return {"width": mask.width, "height": mask.height, "coverage": total / 255 / (mask.width * mask.height)}


def main() -> None:
    kind, source, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        found = (decode_photo if kind == "photo" else decode_mask)(source, folder)
    except InputError as error:
        found = {"problem": error.problem.replace(str(source), "").lstrip(": "), "fix": error.fix}
    except MemoryError:
        found = {"problem": "too large to decode", "fix": "scale it down first"}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
