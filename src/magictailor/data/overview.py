"""An overview of a pair: a table with each mask's coverage, and a contact sheet with the masks."""

from PIL import Image
from rich.table import Table
from rich.text import Text

from magictailor.common.pictures import Color, fit_cell, grid, overlay
from magictailor.data.masks import ReferenceImage
from magictailor.data.pairs import Pair

LEAST, MOST = 0.01, 0.95  # coverage outside this range is rarely intended
COLORS: tuple[Color, ...] = ((220, 50, 47), (38, 110, 210), (40, 150, 60), (200, 130, 0), (130, 60, 180))


def describe(pair: Pair) -> Table:
    """A table with one row per image: sample, word, label, file, size and mask coverage in percent.

    Its caption is the `coverage_warnings`.
    """
    table = Table("sample", "word", "label", "file", "size", "mask %", title=Text(pair.name))
    for number, sample in enumerate(pair.samples):
        for reference in sample.references:
            file, (width, height) = reference.path.name, reference.size
            size, mask = f"{width} x {height}", _percent(reference)
            cells = (str(number), sample.word, sample.label, file, size, mask)
            table.add_row(*map(Text, cells))  # Text: a name may look like markup
    if warnings := coverage_warnings(pair):
        table.caption = Text("\n".join(warnings))
    return table


def coverage_warnings(pair: Pair) -> list[str]:
    """One line per mask that covers less than 1 % or more than 95 % of its image."""
    lines = []
    for sample in pair.samples:
        for reference in sample.references:
            if not LEAST <= reference.coverage <= MOST:
                advice = "crop closer" if reference.coverage < LEAST else "paint black what should not be learned"
                share = f"covers {_percent(reference)} % of the photo"
                lines.append(f"warning: the mask of {reference.path.name} {share}: {advice}")
    return lines


def overview(pair: Pair, cell: int = 128) -> Image.Image:
    """A contact sheet with one row per sample, titled by word, label and coverage, masks overlaid.

    ``cell``: pixels per side of one image.
    """
    rows, titles = [], []
    for number, sample in enumerate(pair.samples):
        color = COLORS[number % len(COLORS)]
        rows.append([_masked(reference, color, cell) for reference in sample.references])
        coverage = " ".join(f"{_percent(reference)}%" for reference in sample.references)
        titles.append(f"{sample.word}\n{sample.label}\n{coverage}")
    return grid(rows, row_titles=titles, cell=cell)


def _masked(reference: ReferenceImage, color: Color, cell: int) -> Image.Image:
    return overlay(fit_cell(reference.image, cell), fit_cell(reference.mask, cell), color)


def _percent(reference: ReferenceImage) -> str:
    return f"{100 * reference.coverage:.1f}"
