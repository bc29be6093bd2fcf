"""Line drawings of pictures by Canny's edges, and how far a picture follows one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from magictailor.common.errors import InputError

LOW, HIGH = 100, 200  # Canny's thresholds, as the published ControlNets for edges were trained
REACH = 1  # pixels of 128 by which an edge may be off

Lines = NDArray[np.uint8]  # [H, W], 255 on a line and 0 elsewhere


def _cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise InputError("lines need OpenCV", "run `pip install 'magictailor[control]'`", field="control") from error
    return cv2


def canny(pixels: NDArray[np.uint8], low: float = LOW, high: float = HIGH, blur: float = 0.0) -> Lines:
    """The edges of a picture uint8 [H, W, 3]. ``blur``: standard deviation of a Gaussian before, in pixels.

    Raises:
        InputError: OpenCV is not installed.
    """
    cv2 = _cv2()
    smooth = cv2.GaussianBlur(pixels, (0, 0), blur) if blur else pixels
    edges: Lines = cv2.Canny(np.ascontiguousarray(smooth), low, high)
    return edges


def overlap(edges: Lines, lines: Lines) -> float:
    """How far edges follow lines, 0 .. 1: the F1 score of both, within `REACH` of 128 pixels.

    Precision is the share of edges with a line near them, recall the share of lines with an edge near them. 0 if either is
    empty.
    """
    cv2 = _cv2()
    side = 2 * max(1, round(REACH * max(edges.shape) / 128)) + 1
    near = np.ones((side, side), np.uint8)
    first, second = edges > 0, lines > 0
    if not first.any() or not second.any():
        return 0.0
    precision = (cv2.dilate(lines, near) > 0)[first].mean()
    recall = (cv2.dilate(edges, near) > 0)[second].mean()
    return float(2 * precision * recall / max(precision + recall, 1e-9))
