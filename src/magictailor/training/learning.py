"""The learning process as one image (the paper's figure 5): previews over steps, and each sample's loss below."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from magictailor.common.errors import InputError
from magictailor.common.pictures import grid
from magictailor.common.plots import subplots, to_image
from magictailor.data.images import load_image
from magictailor.recipe import Recipe
from magictailor.training.metrics import read_metrics
from magictailor.training.run_folder import METRICS_FILE, read_run

CELL, TITLE = 128, 28  # pixels
SMOOTH = 15  # steps that a curve is averaged over
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


def _previews(folder: Path) -> dict[int, list[Path]]:
    """The images of each step: the composite, then each sample alone."""
    found: dict[int, list[Path]] = {}
    for path in sorted((folder / "previews").glob("*-*.png")):
        found.setdefault(int(path.stem.split("-")[0]), []).append(path)
    return found


def _smoothed(
    steps: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A running mean."""
    width = min(SMOOTH, len(values))
    kernel = np.full(width, 1 / width)
    return np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")


def _curves(folder: Path, labels: Sequence[str], recipe: Recipe) -> Image.Image:
    """L_diff of each sample over steps, with the boundaries of phases."""
    rows = read_metrics(folder)
    figure, (axes,) = subplots(1, width=5.2)
    for number, label in enumerate(labels):
        seen = [(r["step"], r[f"diffusion.{number}"]) for r in rows if f"diffusion.{number}" in r]
        if seen:
            steps, values = np.array(seen, np.float64).T
            axes.plot(*_smoothed(steps, values), color=COLORS[number % len(COLORS)], label=label)
    for boundary in np.cumsum([phase.steps for phase in recipe.phases])[:-1]:
        axes.axvline(boundary, color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="step", ylabel=f"diffusion loss, mean of {SMOOTH}")
    axes.legend(frameon=False)
    return to_image(figure)


def learning_process(runs: Sequence[Path | str]) -> Image.Image:
    """One image of several runs: for each, previews at its seed in columns of steps, and loss curves below.

    Raises:
        InputError: no run, one without previews, or no matplotlib.
    """
    blocks = []
    for run in map(Path, runs):
        info, previews = read_run(run), _previews(run)
        shown = len(info.words) + (len(info.words) > 1)
        previews = {step: paths for step, paths in previews.items() if len(paths) == shown}  # others are cut short
        if not previews or not (run / METRICS_FILE).exists():
            raise InputError(f"{run}: has no previews yet", "train with sampling.preview_every=100")
        steps, labels = list(previews), list(info.words.values())
        titles = [" with ".join(labels), *labels] if len(labels) > 1 else labels
        rows = [[load_image(previews[step][i])[0] for step in steps] for i in range(len(titles))]
        sheet = grid(rows, titles, [f"step {step}" for step in steps], cell=CELL)
        blocks.append((f"{info.recipe.method}: {run.name}", sheet, _curves(run, labels, info.recipe)))
    width = max(max(sheet.width, curves.width) for _, sheet, curves in blocks)
    height = sum(TITLE + sheet.height + curves.height for _, sheet, curves in blocks)
    page, top = Image.new("RGB", (width, height), "white"), 0
    for title, sheet, curves in blocks:
        ImageDraw.Draw(page).text((6, top + 6), title, "black", ImageFont.load_default(14))
        page.paste(sheet, (0, top + TITLE))
        page.paste(curves, (0, top + TITLE + sheet.height))
        top += TITLE + sheet.height + curves.height
    return page
