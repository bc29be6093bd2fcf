"""A bench as one HTML page that opens offline: the table, claims, contrasts, and images side by side."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

import magictailor
from magictailor.common.files import write_text
from magictailor.evaluate.records import Row, all_rows, first_seed
from magictailor.evaluate.reporting.contrasts import MULTIPLICITY, contrast_lines, verdict_lines
from magictailor.evaluate.reporting.paper import OURS
from magictailor.evaluate.reporting.selection import prompts_of, truth_of
from magictailor.evaluate.reporting.tables import COSTS, Table, cell_text, cost_texts, make_table, published
from magictailor.generation.images import image_name

MARKS = {0: "", 1: "best", 2: "second"}


def _inline(path: Path) -> str:
    """The PNG as a data URL; empty if it does not exist."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode() if path.exists() else ""


def _lines(table: Table) -> list[list[dict[str, str]]]:
    lines = []
    for method in table.methods:
        line = [{"text": method, "mark": ""}]
        for metric in table.metrics:
            cell = table.cells[method].get(metric)
            line.append({"text": cell_text(cell), "mark": MARKS[cell.rank] if cell else ""})
        lines.append(line + [{"text": text, "mark": ""} for text in (*cost_texts(table, method), published(method))])
    return lines


def _image_rows(bench: Path, rows: Sequence[Row], methods: Sequence[str]) -> tuple[bool, list[dict[str, Any]]]:
    """Whether there are true images; and for each pair the true image and each method's first image of its first prompt."""
    first = {pair: prompts_of(rows, pair)[0] for pair in dict.fromkeys(row.pair for row in rows)}
    truths = {pair: truth_of(bench, pair, prompt) for pair, prompt in first.items()}
    any_truth = any(truths.values())
    lines = []
    for pair, prompt in first.items():
        name, truth = image_name(prompt, first_seed(pair)), truths[pair]
        images = [_inline(bench / "images" / pair / method / name) for method in methods]
        if any_truth:
            images = [_inline(truth) if truth else "", *images]
        lines.append({"pair": f"{pair}: {prompt}", "images": images})
    return any_truth, lines


def write_report(bench: Path, output: Path, against: str | None = None) -> Path:
    """Write the page. ``against``: the method that the others are compared with; by default MagicTailor, if present.

    Raises:
        InputError: no finished unit, or the bench lacks the method ``against``.
    """
    table, rows = make_table(bench), all_rows(bench)
    methods = list(table.methods)
    if against is None:
        against = OURS if OURS in methods else methods[0]
    truth, images = _image_rows(bench, rows, methods)
    titles = (f"{metric} {'↑' if higher else '↓'}" for metric, higher in table.metrics.items())
    templates = Environment(loader=PackageLoader("magictailor.evaluate.reporting", "."), autoescape=True)
    text = templates.get_template("report.html").render(
        name=bench.resolve().name,
        pairs=len({row.pair for row in rows}),
        images=len({(row.pair, row.method, row.prompt, row.seed) for row in rows if row.prompt}),
        header=["method", *titles, *COSTS.values(), "published"],
        lines=_lines(table),
        against=against,
        contrasts=contrast_lines(bench, against),
        verdicts=verdict_lines(bench),
        multiplicity=MULTIPLICITY,
        truth=truth,
        methods=methods,
        rows=images,
        notes=table.notes,
        version=magictailor.__version__,
    )
    write_text(output, text)
    return output
