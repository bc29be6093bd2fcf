"""Colours in CIELAB, where distances agree with human perception."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])  # D65


def cielab(pixels: NDArray[Any]) -> Floats:
    """sRGB 0 .. 255, [..., 3], to CIELAB (D65): L 0 .. 100, a and b about -128 .. 127."""
    srgb = np.asarray(pixels, np.float64) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ XYZ.T / WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def median_color(pixels: NDArray[np.uint8], inside: NDArray[np.bool_]) -> Floats | None:
    """The median of each CIELAB coordinate over the pixels inside, [3]; robust to outlines and highlights.

    ``pixels`` uint8 [S, S, 3], ``inside`` bool [S, S]. None if no pixel is inside.
    """
    return np.median(cielab(pixels[inside]), 0) if inside.any() else None
