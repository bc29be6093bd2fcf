"""Masks that a model suggests, in a process that keeps the model loaded: ``python -m magictailor.studio.suggest``.

It reads requests as lines of JSON, and answers each with one line. It ends when its input does.
"""

import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.common.text import reason
from magictailor.data.images import load_image
from magictailor.segmentation import load_segmenter
from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.grabcut import grabcut
from magictailor.segmentation.masks import regions_of
from magictailor.segmentation.points import Click, PointModel, load_point_model
from magictailor.segmentation.regions import Floats, best_regions, union


@lru_cache(maxsize=1)
def _segmenter(name: str) -> Segmenter:
    return load_segmenter(name)


@lru_cache(maxsize=1)
def _point_model(name: str) -> PointModel:
    return load_point_model(name)


def suggest(request: dict[str, Any]) -> tuple[Floats, str]:
    """A mask [H, W], 0 .. 1, and a note for the user.

    Args:
        request: ``photo`` (a path), and one of ``word`` (with ``model`` and ``threshold``), ``box`` (left, top, right,
            bottom) and ``clicks`` (x, y, inside; with ``model``).

    Raises:
        InputError: nothing found, weights that are missing, a box or clicks outside the image.
    """
    photo = Path(request["photo"])
    image, _ = load_image(photo)
    if "box" in request:
        left, top, right, bottom = map(float, request["box"])
        return grabcut(image, (left, top, right, bottom)), "cut out of the box"
    if "clicks" in request:
        clicks = [Click(float(x), float(y), bool(inside)) for x, y, inside in request["clicks"]]
        return _point_model(request["model"])(image, clicks), "from the clicks"
    word, threshold = str(request["word"]), float(request["threshold"])
    found = _segmenter(request["model"]).find(image, photo, [word]).get(word, [])
    best = best_regions(found, threshold, regions_of(word, {}))
    if not best:
        score = max((region.score for region in found), default=0.0)
        fix = f"lower the threshold below {score:.2f}" if score > 0 else "try another word, a box or clicks"
        raise InputError(f"{word}: not found in this photo", fix)
    return union(best, image.size), f"{word}: {best[0].score:.2f} sure, {len(best)} region{'s' * (len(best) > 1)}"


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Write the mask to the request's ``output``; what happened, as JSON."""
    try:
        mask, note = suggest(request)
        Image.fromarray((mask * 255).round().astype(np.uint8)).save(request["output"], "PNG")
        return {"note": note}
    except InputError as error:
        return {"problem": error.problem, "fix": error.fix}
    except Exception as error:  # a library's; the process goes on
        return {"problem": f"the model failed ({reason(error)})", "fix": "try another model"}


def main() -> None:
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    output, sys.stdout = sys.stdout, sys.stderr  # libraries print, too
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=output, flush=True)


if __name__ == "__main__":
    main()
