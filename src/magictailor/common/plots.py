"""Plots as images, drawn by matplotlib without a display."""

from typing import Any

import numpy as np
from PIL import Image

from magictailor.common.errors import InputError

COLUMNS, WIDTH, HEIGHT = 3, 3.6, 2.8  # inches per panel


def subplots(count: int, title: str = "", width: float = WIDTH, height: float = HEIGHT) -> tuple[Any, list[Any]]:
    """A figure with ``count`` panels, and their axes.

    Raises:
        InputError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("curves need matplotlib", "run `pip install 'magictailor[plots]'`") from error
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * width, rows * height + 0.3 * bool(title)), dpi=100)
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(count)]


def to_image(figure: Any) -> Image.Image:
    """The figure as an RGB image."""
    figure.tight_layout()
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())
