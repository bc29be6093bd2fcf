"""Tables of a bench: methods in rows, metrics in columns, intervals over pairs, best and second-best marked."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.evaluate.costs import read_cost
from magictailor.evaluate.metrics import higher_is_better
from magictailor.evaluate.metrics.judging import accuracy_line, judge_name
from magictailor.evaluate.records import Row, all_rows, scorer_models
from magictailor.evaluate.reporting.paper import TABLES
from magictailor.evaluate.reporting.statistics import MIN_PAIRS, Interval, bootstrap
from magictailor.generation.reference_only import REFERENCE_ONLY
from magictailor.methods import CATALOGUE

DIGITS = 9  # means that agree to this number of decimals are equal
Keys = frozenset[tuple[str, str, int]]
COSTS = {"seconds": "seconds", "peak_gb": "peak GB", "bytes": "stored MB"}


@dataclass(frozen=True)
class Cell:
    """``rank``: 1 for the best of the column, 2 for the second-best, else 0."""

    interval: Interval
    pairs: int
    rank: int = 0


@dataclass(frozen=True)
class Table:
    """``cells[method][metric]``, and ``costs[method]`` as means over pairs.

    ``methods``: titles by method, in the order of rows; ``metrics``: whether higher is better, in the order of columns;
    ``notes``: the models that scored, and the judge's accuracy.
    """

    methods: Mapping[str, str]
    metrics: Mapping[str, bool]
    cells: dict[str, dict[str, Cell]]
    costs: dict[str, dict[str, float]]
    notes: Sequence[str] = ()


def scored_keys(rows: Sequence[Row], method: str, metric: str) -> Keys:
    """(pair, prompt, seed) of the method's images that the metric's scorer has scored."""
    scorers = {row.scorer for row in rows if row.metric == metric}
    return frozenset((r.pair, r.prompt, r.seed) for r in rows if r.method == method and r.scorer in scorers)


def valued_keys(rows: Sequence[Row], method: str, metric: str) -> Keys:
    """(pair, prompt, seed) of the method's images that have a value of the metric."""
    return frozenset(
        (r.pair, r.prompt, r.seed) for r in rows if (r.method, r.metric) == (method, metric) and not math.isnan(r.value)
    )


def pair_means(rows: Sequence[Row], method: str, metric: str, among: Keys | None = None) -> dict[str, float]:
    """The mean of the metric on each pair, over the images that have a value. ``among``: over these images only."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row.method != method or row.metric != metric or math.isnan(row.value):
            continue
        if among is None or (row.pair, row.prompt, row.seed) in among:
            values.setdefault(row.pair, []).append(row.value)
    return {pair: sum(v) / len(v) for pair, v in values.items()}


def _mean_costs(bench: Path, method: str, pairs: Iterable[str]) -> dict[str, float]:
    """Means over these pairs."""
    paths = [bench / "costs" / pair / f"{method}.json" for pair in pairs]
    found = [cost for path in paths if (cost := read_cost(path)) is not None]
    means = {}
    for key in COSTS:
        values = [float(value) for cost in found if (value := getattr(cost, key)) is not None]
        if values:
            means[key] = sum(values) / len(values) / (1e6 if key == "bytes" else 1)
    return means


def _methods(rows: Sequence[Row]) -> dict[str, str]:
    """The methods in the rows under their own names, in the order of `magictailor recipes`."""
    known = [*(name for group in CATALOGUE.values() for name in group), REFERENCE_ONLY]
    present = {row.method for row in rows}
    return {m: m for m in sorted(present, key=lambda m: known.index(m) if m in known else len(known))}


def _ranks(rows: Sequence[Row], methods: Iterable[str], metric: str, higher: bool) -> dict[str, int]:
    """1 for the best and 2 for the second-best method.

    A method is ranked only if it was scored on every image key that any of the methods was. Equal means share a rank. Nothing is ranked on fewer than
    `MIN_PAIRS` pairs: no test could distinguish the best from the second-best.
    """
    keys = {method: scored_keys(rows, method, metric) for method in methods}
    every = Keys().union(*keys.values())
    if len({pair for pair, *_ in every}) < MIN_PAIRS:
        return {}
    values = {m: list(pair_means(rows, m, metric).values()) for m in keys if keys[m] == every}
    means = {m: round(sum(v) / len(v), DIGITS) for m, v in values.items() if v}
    better = {m: sum(other > mean if higher else other < mean for other in means.values()) for m, mean in means.items()}
    return {m: count + 1 for m, count in better.items() if count < 2} if len(means) > 1 else {}


def select_metrics(rows: Sequence[Row], metrics: Sequence[str] = ()) -> dict[str, bool]:
    """The metrics in the rows, or ``metrics``; whether higher is better. Raises InputError for one that is missing."""
    names = {row.metric for row in rows}
    present = {metric: higher for metric, higher in higher_is_better().items() if metric in names}
    if unknown := [metric for metric in metrics if metric not in present]:
        raise InputError(f"{unknown[0]}: not in this bench", f"choose from {','.join(present)}", field="metrics")
    return {metric: present[metric] for metric in metrics or present}


def make_table(bench: Path, paper: str | None = None, metrics: Sequence[str] = ()) -> Table:
    """The table of all finished units.

    Args:
        paper: the number of a table of the paper, for its rows, including methods that this bench lacks.
        metrics: the columns; all metrics if empty.

    Raises:
        InputError: no finished unit, or no such table or metric.
    """
    rows = all_rows(bench)
    if not rows:
        raise InputError(
            f"{bench}: no finished unit in it", f"run `magictailor bench run SPEC --output {bench}`", field="bench"
        )
    if paper is not None and paper not in TABLES:
        raise InputError(f"{paper}: no such table", f"choose one of {', '.join(TABLES)}", field="paper")
    methods = dict(TABLES[paper].rows) if paper is not None else _methods(rows)
    columns = select_metrics(rows, metrics)
    cells: dict[str, dict[str, Cell]] = {method: {} for method in methods}
    for metric, higher in columns.items():
        ranks = _ranks(rows, methods, metric, higher)
        for method in methods:
            if means := list(pair_means(rows, method, metric).values()):
                cells[method][metric] = Cell(bootstrap(means), len(means), ranks.get(method, 0))
    costs = {m: _mean_costs(bench, m, {row.pair for row in rows if row.method == m}) for m in methods}
    return Table(methods, columns, cells, costs, _notes(bench))


def _notes(bench: Path) -> list[str]:
    """A line for each scorer's model; for the world's judge also its accuracy on held-out renders."""
    models = scorer_models(bench)
    lines = [f"{scorer}: {model}" for scorer, model in models.items()]
    if any(judge_name() in model for model in models.values()):
        lines.append(accuracy_line())
    return lines


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def cell_text(cell: Cell | None, marks: tuple[str, str] = ("{}", "{}")) -> str:
    """The mean, marked by its rank, and its interval. ``marks``: formats of the best and of the second-best."""
    if cell is None:
        return ""
    mean = _number(cell.interval.mean)
    if cell.rank:
        mean = marks[cell.rank - 1].format(mean)
    low, high = cell.interval.low, cell.interval.high
    return mean if math.isnan(low) else f"{mean} [{_number(low)}, {_number(high)}]"


def cost_texts(table: Table, method: str) -> list[str]:
    """A method's costs in the order of `COSTS`; empty if unknown."""
    return [_number(table.costs[method].get(key, math.nan)) for key in COSTS]


def published(method: str) -> str:
    """The paper's values for a method; empty if it prints none."""
    return next(
        (named.published for group in CATALOGUE.values() for name, named in group.items() if name == method), ""
    )


def _grid(table: Table, marks: tuple[str, str], arrows: tuple[str, str]) -> list[list[str]]:
    """Rows of texts, the header first. ``arrows``: after a metric, if lower and if higher is better."""
    titles = [f"{metric} {arrows[higher]}" for metric, higher in table.metrics.items()]
    lines = [["method", *titles, *COSTS.values(), "pairs", "published"]]
    for method, title in table.methods.items():
        cells = table.cells[method]
        texts = [cell_text(cells.get(metric), marks) for metric in table.metrics]
        lines.append([title, *texts, *cost_texts(table, method), _pairs(table, method), published(method)])
    return lines


def _pairs(table: Table, method: str) -> str:
    return str(max((cell.pairs for cell in table.cells[method].values()), default=0))


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Rows of texts, the header first, as aligned columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in lines]


def piped(lines: Sequence[Sequence[str]]) -> list[str]:
    """Rows of texts, the header first, in Markdown."""
    head, *rest = lines
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rest)]


def _as_text(table: Table) -> str:
    return "\n".join([*aligned(_grid(table, ("{}*", "{}'"), ("↓", "↑"))), *table.notes])


def _as_markdown(table: Table) -> str:
    rows = piped(_grid(table, ("**{}**", "_{}_"), ("↓", "↑")))
    return "\n".join([*rows, "", *(f"- {note}" for note in table.notes)])


def _as_latex(table: Table) -> str:
    head, *lines = _grid(table, (r"\textbf{{{}}}", r"\underline{{{}}}"), (r"$\downarrow$", r"$\uparrow$"))
    body = [" & ".join(text.replace("_", r"\_") for text in line) + r" \\" for line in (head, *lines)]
    notes = [f"% {note}" for note in table.notes]
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
        write([title, *values, *costs, _pairs(table, method), published(method)])
    return out.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Table], str]] = {
    "text": _as_text,
    "markdown": _as_markdown,
    "latex": _as_latex,
    "csv": _as_csv,
}
