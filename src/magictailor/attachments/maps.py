"""Control maps: what a ControlNet reads of a picture, by kind."""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from magictailor.attachments.lines import canny
from magictailor.common.errors import InputError
from magictailor.common.text import reason

ANNOTATORS = "lllyasviel/Annotators"  # of controlnet-aux: where its detectors' weights are
DETECTORS = {"depth": "MidasDetector", "pose": "OpenposeDetector", "lines": "LineartDetector"}


def _edges(picture: Image.Image) -> Image.Image:
    return Image.fromarray(canny(np.asarray(picture.convert("RGB")))).convert("RGB")


def _detected(name: str) -> Callable[[Image.Image], Image.Image]:
    def detect(picture: Image.Image) -> Image.Image:
        try:
            import controlnet_aux
        except ImportError as error:
            raise InputError(
                "needs controlnet-aux",
                "run `pip install controlnet-aux`, or give a ready map",
                field="control",
            ) from error
        try:
            detector: Any = getattr(controlnet_aux, name).from_pretrained(ANNOTATORS)
        except Exception as error:  # not in the hub's cache, and no network: the library raises nearly anything
            raise InputError(
                f"{name}: its weights ({ANNOTATORS}) cannot be read ({reason(error)})",
                "check the network, or give a ready map",
                field="control",
            ) from error
        size = picture.width
        return detector(picture, detect_resolution=size, image_resolution=size).convert("RGB").resize(picture.size)

    return detect


def make_map(kind: str, picture: Image.Image, family: str) -> Image.Image:
    """The map of a square picture, RGB, in its size.

    The embedded base's line drawings are Canny's edges, as it was trained on them.

    Raises:
        InputError: an unknown kind, or a library that is not installed.
    """
    drawn_by_edges = kind == "canny" or (kind == "lines" and family == "embedded")
    return _edges(picture) if drawn_by_edges else _detected(DETECTORS[kind])(picture)
