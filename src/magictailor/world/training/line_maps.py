"""Line drawings of renders as a ControlNet is shown them in training: whole, of the subject alone, or with gaps."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from magictailor.attachments.lines import Lines, canny

EDGES = ((100, 200, 0.0), (50, 100, 0.0), (50, 100, 1.2))  # thresholds and blur of Canny's
SUBJECT_ALONE, GAP = 0.5, 0.25  # shares of the drawings


def varied(image: NDArray[np.uint8], near: NDArray[np.bool_], random: np.random.Generator) -> Lines:
    """A drawing of an image [S, S, 3]; ``near`` [S, S]: at a subject or next to it.

    Half of the drawings show the subject alone, so that a prompt may choose the scenery. Some have a gap.
    """
    low, high, blur = EDGES[int(random.integers(len(EDGES)))]
    lines = canny(image, low, high, blur)
    if random.random() < SUBJECT_ALONE and near.any():
        lines = lines * near
    if random.random() < GAP:
        size = len(lines)
        height, width = random.integers(size // 5, size // 2, 2)
        top, left = random.integers(0, size - height), random.integers(0, size - width)
        lines[top : top + height, left : left + width] = 0
    return lines


def as_maps(drawings: list[Lines]) -> Tensor:
    """What a ControlNet reads, [N, 3, S, S] in 0 .. 1."""
    stacked = torch.from_numpy(np.stack(drawings)).float() / 255
    return stacked[:, None].expand(-1, 3, -1, -1).contiguous()
