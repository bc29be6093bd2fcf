"""Plots as pictures, drawn by matplotlib without a display."""

from typing import Any

import numpy as np
from PIL import Image

from magictailor.common.errors import InputError

COLUMNS, WIDTH, HEIGHT = 3, 3.6, 2.8  # inches a panel


def plots(count: int, title: str = "", width: float = WIDTH, height: float = HEIGHT) -> tuple[Any, list[Any]]:
    """A figure with so many panels, and their axes.

    Raises:
        InputError: no matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("curves need matplotlib: pip install 'magictailor[plots]'") from error
    columns = min(count, COLUMNS)
    lines = -(-count // columns)
    figure = Figure(figsize=(columns * width, lines * height + 0.3 * bool(title)), dpi=100)
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure, [figure.add_subplot(lines, columns, i + 1) for i in range(count)]


def rendered(figure: Any) -> Image.Image:
    """The figure, RGB."""
    figure.tight_layout()
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())
