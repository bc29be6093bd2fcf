"""A bench as one HTML page that opens offline: the table, contrasts, and pictures side by side."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

import magictailor
from magictailor.common.files import write_text
from magictailor.evaluate.records import Row, all_rows, first_seed
from magictailor.evaluate.reporting.contrasts import EACH, contrast_lines, verdict_lines
from magictailor.evaluate.reporting.shown import prompts_of, truth_of
from magictailor.evaluate.reporting.tables import COSTS, Table, cell_text, cost_texts, make_table, published
from magictailor.generation.pictures import picture_name

MARKS = {0: "", 1: "best", 2: "second"}


def _inline(path: Path) -> str:
    """The PNG as a data URL; nothing where there is none."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode() if path.exists() else ""


def _lines(table: Table) -> list[list[dict[str, str]]]:
    lines = []
    for method in table.methods:
        line = [{"text": method, "mark": ""}]
        for figure in table.figures:
            cell = table.cells[method].get(figure)
            line.append({"text": cell_text(cell), "mark": MARKS[cell.rank] if cell else ""})
        lines.append(line + [{"text": text, "mark": ""} for text in (*cost_texts(table, method), published(method))])
    return lines


def _pictures(home: Path, rows: Sequence[Row], methods: Sequence[str]) -> tuple[bool, list[dict[str, Any]]]:
    """Of each pair its truth, if it is of the world, and each method's first picture of the first prompt."""
    first = {pair: prompts_of(rows, pair)[0] for pair in dict.fromkeys(row.pair for row in rows)}
    truths = {pair: truth_of(home, pair, prompt) for pair, prompt in first.items()}
    known = any(truths.values())
    drawn = []
    for pair, prompt in first.items():
        images = [
            _inline(home / "images" / pair / method / picture_name(prompt, first_seed(pair))) for method in methods
        ]
        truth = truths[pair]
        drawn.append(
            {"pair": f"{pair}: {prompt}", "images": [_inline(truth) if truth else "", *images] if known else images}
        )
    return known, drawn


def write_report(home: Path, output: Path, reference: str | None = None) -> Path:
    """Write the page. ``reference``: the method that the others are compared with; MagicTailor, if it is there.

    Raises:
        InputError: no finished unit, or no such reference.
    """
    table, rows = make_table(home), all_rows(home)
    methods = list(table.methods)
    if reference is None:
        reference = "magictailor" if "magictailor" in table.methods else next(iter(table.methods))
    truth, drawn = _pictures(home, rows, methods)
    page = Environment(loader=PackageLoader("magictailor.evaluate.reporting", "."), autoescape=True).get_template(
        "report.html"
    )
    text = page.render(
        name=home.resolve().name,
        pairs=len({row.pair for row in rows}),
        pictures=len({(row.pair, row.method, row.prompt, row.seed) for row in rows if row.prompt}),
        head=[
            "method",
            *(f"{name} {'↑' if up else '↓'}" for name, up in table.figures.items()),
            *COSTS.values(),
            "published",
        ],
        lines=_lines(table),
        reference=reference,
        contrasts=contrast_lines(home, reference),
        verdicts=verdict_lines(home),
        each=EACH,
        truth=truth,
        methods=methods,
        rows=drawn,
        judges=table.notes,
        version=magictailor.__version__,
    )
    write_text(output, text)
    return output
