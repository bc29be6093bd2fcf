"""Tables of a bench: methods in rows, figures in columns, intervals over pairs, best and second-best marked."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from magictailor.errors import InputError
from magictailor.evaluate.metrics import known_metrics
from magictailor.evaluate.records import Row, all_rows
from magictailor.evaluate.statistics import Interval, bootstrap
from magictailor.methods import CATALOGUE

COSTS = {"seconds": "seconds", "peak_gb": "peak GB", "bytes": "stored MB"}


@dataclass(frozen=True)
class Cell:
    """``rank``: 1 the best of its column, 2 the second, 0 neither."""

    interval: Interval
    pairs: int
    rank: int = 0


@dataclass(frozen=True)
class Table:
    """``cells[method][figure]``; ``costs[method]`` means over pairs."""

    methods: Sequence[str]
    figures: Sequence[str]
    cells: dict[str, dict[str, Cell]]
    costs: dict[str, dict[str, float]]


def pair_means(rows: Sequence[Row], method: str, figure: str) -> dict[str, float]:
    """A method's mean of a figure on each pair, pictures that have none left out."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row.method == method and row.metric == figure and not math.isnan(row.value):
            values.setdefault(row.pair, []).append(row.value)
    return {pair: sum(v) / len(v) for pair, v in values.items()}


def _costs(folder: Path, method: str) -> dict[str, float]:
    found = [json.loads(p.read_text("utf-8")) for p in (folder / "costs").glob(f"*/{method}.json")]
    means = {}
    for key in COSTS:
        values = [float(cost[key]) for cost in found if cost.get(key) is not None]
        if values:
            means[key] = sum(values) / len(values) / (1e6 if key == "bytes" else 1)
    return means


def make_table(folder: Path) -> Table:
    """Of all finished units. Raises InputError where there are none."""
    rows = all_rows(folder)
    if not rows:
        raise InputError(f"{folder}: no finished unit in it; magictailor bench run SPEC --output {folder}")
    higher = {name: up for metric in known_metrics() for name, up in metric.higher.items()}
    known = [name for group in CATALOGUE.values() for name in group]
    methods = sorted({row.method for row in rows}, key=lambda m: known.index(m) if m in known else len(known))
    figures = [name for name in higher if any(row.metric == name for row in rows)]
    cells: dict[str, dict[str, Cell]] = {method: {} for method in methods}
    for figure in figures:
        means = {m: list(pair_means(rows, m, figure).values()) for m in methods}
        order = sorted((m for m in methods if means[m]), key=lambda m: bootstrap(means[m]).mean, reverse=higher[figure])
        for method in order:
            rank = order.index(method) + 1
            cells[method][figure] = Cell(bootstrap(means[method]), len(means[method]), rank if rank <= 2 else 0)
    return Table(methods, figures, cells, {m: _costs(folder, m) for m in methods})


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def cell_text(cell: Cell | None, marks: tuple[str, str] = ("{}", "{}")) -> str:
    """The mean, marked by its rank, and its interval."""
    if cell is None:
        return ""
    mean = _number(cell.interval.mean)
    if cell.rank:
        mean = marks[cell.rank - 1].format(mean)
    spread = (
        f" [{_number(cell.interval.low)}, {_number(cell.interval.high)}]" if not math.isnan(cell.interval.low) else ""
    )
    return mean + spread


def cost_texts(table: Table, method: str) -> list[str]:
    return [_number(table.costs[method].get(key, math.nan)) for key in COSTS]


def published(method: str) -> str:
    """What the paper prints for it; empty where it prints nothing."""
    return next(
        (named.published for group in CATALOGUE.values() for name, named in group.items() if name == method), ""
    )


def _grid(table: Table, marks: tuple[str, str]) -> list[list[str]]:
    head = ["method", *table.figures, *COSTS.values(), "pairs", "published"]
    lines = [head]
    for method in table.methods:
        cells = table.cells[method]
        pairs = str(max((cell.pairs for cell in cells.values()), default=0))
        figures = [cell_text(cells.get(f), marks) for f in table.figures]
        lines.append([method, *figures, *cost_texts(table, method), pairs, published(method)])
    return lines


def _as_text(table: Table) -> str:
    lines = _grid(table, ("{}*", "{}'"))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _as_markdown(table: Table) -> str:
    head, *lines = _grid(table, ("**{}**", "_{}_"))
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def _as_latex(table: Table) -> str:
    head, *lines = _grid(table, (r"\textbf{{{}}}", r"\underline{{{}}}"))
    body = [" & ".join(text.replace("_", r"\_") for text in line) + r" \\" for line in (head, *lines)]
    return "\n".join([rf"\begin{{tabular}}{{{'l' * len(head)}}}", body[0], r"\hline", *body[1:], r"\end{tabular}"])


def _as_csv(table: Table) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(_grid(table, ("{}", "{}")))
    return out.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Table], str]] = {
    "text": _as_text,
    "markdown": _as_markdown,
    "latex": _as_latex,
    "csv": _as_csv,
}
