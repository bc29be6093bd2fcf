"""A table as aligned text, Markdown, LaTeX or CSV."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence

from magictailor.evaluate.anchor_names import ANCHORS
from magictailor.evaluate.reporting.paper import published
from magictailor.evaluate.reporting.tables import COSTS, Cell, Table


def number_text(value: float) -> str:
    """Three decimals below 10, one below 1000, none above; empty for NaN."""
    if math.isnan(value):
        return ""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def cell_text(cell: Cell | None, marks: tuple[str, str] = ("{}", "{}")) -> str:
    """The mean, marked by its rank, and its interval. ``marks``: formats of the best and of the second-best."""
    if cell is None:
        return ""
    mean = number_text(cell.interval.mean)
    if cell.rank:
        mean = marks[cell.rank - 1].format(mean)
    low, high = cell.interval.low, cell.interval.high
    return mean if math.isnan(low) else f"{mean} [{number_text(low)}, {number_text(high)}]"


def cost_texts(table: Table, method: str) -> list[str]:
    """A method's costs in the order of `COSTS`; empty if unknown or of an anchor."""
    costs = {} if method in ANCHORS else table.costs[method]
    return [number_text(costs.get(key, math.nan)) for key in COSTS]


def pair_count(table: Table, method: str) -> int:
    """The pairs behind a row."""
    return max((cell.pairs for cell in table.cells[method].values()), default=0)


def _grid(table: Table, marks: tuple[str, str], arrows: tuple[str, str]) -> list[list[str]]:
    """Rows of texts, the header first. ``arrows``: after a metric, if lower and if higher is better."""
    titles = [f"{metric} {arrows[higher]}" for metric, higher in table.metrics.items()]
    lines = [["method", *titles, *COSTS.values(), "pairs", "published"]]
    for method, title in table.methods.items():
        cells = table.cells[method]
        texts = [cell_text(cells.get(metric), marks) for metric in table.metrics]
        end = [str(pair_count(table, method)), published(method)]
        lines.append([title, *texts, *cost_texts(table, method), *end])
    return lines


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Rows of texts, the header first, as aligned columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in lines]


def piped(lines: Sequence[Sequence[str]]) -> list[str]:
    """Rows of texts, the header first, in Markdown."""
    head, *rest = lines
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rest)]


def _below(table: Table) -> Iterator[str]:
    """What stands under a table: recipes, anchors, models."""
    yield from (f"{method}: {line}" for method, line in table.recipes.items())
    yield from (f"{method}: {ANCHORS[method]}" for method in table.methods if method in ANCHORS)
    yield from table.notes


def _as_text(table: Table) -> str:
    return "\n".join([*aligned(_grid(table, ("{}*", "{}'"), ("↓", "↑"))), *_below(table)])


def _as_markdown(table: Table) -> str:
    rows = piped(_grid(table, ("**{}**", "_{}_"), ("↓", "↑")))
    return "\n".join([*rows, "", *(f"- {note}" for note in _below(table))])


def _as_latex(table: Table) -> str:
    head, *lines = _grid(table, (r"\textbf{{{}}}", r"\underline{{{}}}"), (r"$\downarrow$", r"$\uparrow$"))
    body = [" & ".join(text.replace("_", r"\_") for text in line) + r" \\" for line in (head, *lines)]
    notes = [f"% {note}" for note in _below(table)]
    return "\n".join(
        [*notes, rf"\begin{{tabular}}{{{'l' * len(head)}}}", body[0], r"\hline", *body[1:], r"\end{tabular}"]
    )


def _as_csv(table: Table) -> str:
    """Three columns per metric: the mean and the ends of its interval, without marks."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    titles = [f"{metric}{end}" for metric in table.metrics for end in ("", " low", " high")]
    write(["method", *titles, *COSTS.values(), "pairs", "published"])
    for method, title in table.methods.items():
        values: list[object] = []
        for metric in table.metrics:
            cell = table.cells[method].get(metric)
            values += [cell.interval.mean, cell.interval.low, cell.interval.high] if cell else ["", "", ""]
        costs = [table.costs[method].get(key, "") for key in COSTS]
        write([title, *values, *costs, pair_count(table, method), published(method)])
    return out.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Table], str]] = {
    "text": _as_text,
    "markdown": _as_markdown,
    "latex": _as_latex,
    "csv": _as_csv,
}
