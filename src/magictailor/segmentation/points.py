"""Masks from clicks: points on a photo that belong to the subject, and points that do not.

GrabCut needs no weights, the world's judge knows its own pictures, SAM, SAM 2 and SAM 3 need their weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.segmentation.grabcut import LARGEST, cut
from magictailor.segmentation.regions import Floats

RADIUS = 0.02  # of the longer side: what a click is sure of, for GrabCut
REACH = 0.35  # of the longer side: what lies farther from every click is background, for GrabCut


@dataclass(frozen=True)
class Click:
    """``x``, ``y``: pixels of the photo. ``inside``: whether the point belongs to the subject."""

    x: float
    y: float
    inside: bool = True


PointModel = Callable[[Image.Image, Sequence[Click]], Floats]


def check_clicks(image: Image.Image, clicks: Sequence[Click]) -> None:
    """Raises InputError: none inside the subject, or one outside the image."""
    if not any(click.inside for click in clicks):
        raise InputError("no click says what belongs to the subject", "click on it first", field="clicks")
    if any(not (0 <= c.x < image.width and 0 <= c.y < image.height) for c in clicks):
        raise InputError("a click lies outside the image", "click inside it", field="clicks")


def grabcut_points(image: Image.Image, clicks: Sequence[Click]) -> Floats:
    """GrabCut from clicks, [H, W], 0 .. 1: discs around them are sure, and what is far from all of them is background.

    Raises:
        InputError: opencv is not installed, or clicks that cannot be.
    """
    check_clicks(image, clicks)
    scale = min(1.0, LARGEST / max(image.size))
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    rows, columns = np.mgrid[: small.height, : small.width]
    longest = max(small.size)
    distances = {c: np.hypot(columns - c.x * scale, rows - c.y * scale) for c in clicks}
    near = np.minimum.reduce([d for c, d in distances.items() if c.inside]) < REACH * longest
    sure = {
        inside: np.logical_or.reduce(
            [d < max(2.0, RADIUS * longest) for c, d in distances.items() if c.inside == inside]
        )
        for inside in {c.inside for c in clicks}
    }
    found = cut(small, near, sure.get(True), sure.get(False))
    return np.asarray(Image.fromarray(255 * found).resize(image.size), np.float64) / 255


class JudgePoints:
    """The world's judge: the parts that the clicks inside fall on, without those that the others fall on."""

    def __init__(self) -> None:
        from magictailor.world.judge import load_judge

        self.network = load_judge()

    def __call__(self, image: Image.Image, clicks: Sequence[Click]) -> Floats:
        """Raises InputError: clicks that cannot be."""
        import torch

        from magictailor.segmentation.loading import to_square, upsample
        from magictailor.world.judge import class_probabilities
        from magictailor.world.render import SIZE

        check_clicks(image, clicks)
        with torch.no_grad():
            pixels = to_square(image, SIZE, (0.5,) * 3, (0.5,) * 3)
            probabilities = class_probabilities(self.network(pixels), pixels)[0]
        best = upsample(probabilities, image.size).argmax(0)
        inside, outside = (
            {int(best[int(c.y), int(c.x)]) for c in clicks if c.inside == want} for want in (True, False)
        )
        return np.isin(best, sorted(inside - outside)).astype(np.float64)


class SamPoints:
    """SAM, SAM 2 or SAM 3, which take points. ``weights``: a folder or hub id."""

    def __init__(self, version: str, weights: str | None = None) -> None:
        from transformers import Sam2Model, Sam3TrackerModel, SamModel

        from magictailor.segmentation.grounded import MASKS, pad, stretch
        from magictailor.segmentation.loading import load_model

        model: Any = {"sam": SamModel, "sam2": Sam2Model, "sam3": Sam3TrackerModel}[version]
        known = {**MASKS, "sam3": "facebook/sam3"}
        self.network = load_model(model, weights or known[version]).eval()
        inputs: dict[str, Callable[[Image.Image, int], Any]] = {
            "sam": pad, "sam2": stretch, "sam3": partial(stretch, mean=(0.5,) * 3, std=(0.5,) * 3)
        }  # fmt: skip
        self.to_input = inputs[version]

    def __call__(self, image: Image.Image, clicks: Sequence[Click]) -> Floats:
        """Raises InputError: clicks that cannot be."""
        import torch

        check_clicks(image, clicks)
        square = self.to_input(image, self.network.config.prompt_encoder_config.image_size)
        scale = torch.tensor([square.width / image.width, square.height / image.height])
        points = torch.tensor([[click.x, click.y] for click in clicks]) * scale
        labels = torch.tensor([int(click.inside) for click in clicks])
        with torch.no_grad():
            out = self.network(
                pixel_values=square.pixels, input_points=points[None, None], input_labels=labels[None, None],
                multimask_output=False,
            )  # fmt: skip
        logits = square.to_image(out.pred_masks[0, :, 0], image.size)[0]
        return 1 / (1 + np.exp(-logits))


POINT_MODELS: dict[str, Callable[[], PointModel]] = {
    "grabcut": lambda: grabcut_points,
    "embedded": JudgePoints,
    "sam": lambda: SamPoints("sam"),
    "sam2": lambda: SamPoints("sam2"),
    "sam3": lambda: SamPoints("sam3"),
}


def load_point_model(name: str) -> PointModel:
    """Raises InputError: an unknown name, or weights that are missing."""
    if name not in POINT_MODELS:
        raise InputError(f"{name}: takes no clicks", f"choose one of {', '.join(POINT_MODELS)}", field="model")
    return POINT_MODELS[name]()
