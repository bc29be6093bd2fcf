"""What was read, shown to the user: a table with every mask's coverage, and a sheet with the masks drawn."""

from PIL import Image
from rich.table import Table
from rich.text import Text

from magictailor.common.pictures import Color, fit_cell, grid, overlay
from magictailor.data.masks import Reference
from magictailor.data.pairs import Pair

LEAST, MOST = 0.01, 0.95  # coverage outside of this is rarely meant
COLORS: tuple[Color, ...] = ((220, 50, 47), (38, 110, 210), (40, 150, 60), (200, 130, 0), (130, 60, 180))


def describe(pair: Pair) -> Table:
    """A table with a row an image: sample, word, label, file, size and mask coverage in per cent.

    Remarks on odd coverage stand below it.
    """
    table = Table("sample", "word", "label", "file", "size", "mask %", title=Text(pair.name))
    for number, sample in enumerate(pair.samples):
        for reference in sample.references:
            file, (width, height) = reference.path.name, reference.image.size
            size, mask = f"{width} x {height}", _percent(reference)
            cells = (str(number), sample.word, sample.label, file, size, mask)
            table.add_row(*map(Text, cells))  # Text: a name may look like markup
    if notes := remarks(pair):
        table.caption = Text("\n".join(notes))
    return table


def remarks(pair: Pair) -> list[str]:
    """One line for each mask that covers under 1 % or over 95 % of its image."""
    lines = []
    for sample in pair.samples:
        for reference in sample.references:
            if not LEAST <= reference.coverage <= MOST:
                advice = "crop closer" if reference.coverage < LEAST else "paint black what not to train"
                share = f"covers {_percent(reference)} % of the image"
                lines.append(f"warning: the mask of {reference.path.name} {share}: {advice}")
    return lines


def overview(pair: Pair, cell: int = 128) -> Image.Image:
    """A contact sheet: a row a sample, titled by word, label and coverage; the masks are drawn in."""
    rows, titles = [], []
    for number, sample in enumerate(pair.samples):
        color = COLORS[number % len(COLORS)]
        rows.append([_masked(reference, color, cell) for reference in sample.references])
        coverage = " ".join(f"{_percent(reference)}%" for reference in sample.references)
        titles.append(f"{sample.word}\n{sample.label}\n{coverage}")
    return grid(rows, row_titles=titles, cell=cell)


def _masked(reference: Reference, color: Color, cell: int) -> Image.Image:
    return overlay(fit_cell(reference.image, cell), fit_cell(reference.mask, cell), color)


def _percent(reference: Reference) -> str:
    return f"{100 * reference.coverage:.1f}"
