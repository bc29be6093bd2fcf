"""Tables of a bench: methods in rows, figures in columns, intervals over pairs, best and second-best marked."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.evaluate.metrics import directions
from magictailor.evaluate.metrics.judging import accuracy_line, judge_name
from magictailor.evaluate.records import Row, all_judges, all_rows, read_cost
from magictailor.evaluate.reporting.paper import TABLES
from magictailor.evaluate.reporting.statistics import FEWEST, Interval, bootstrap
from magictailor.methods import CATALOGUE

DIGITS = 9  # means that agree to so many decimals are equal
Keys = frozenset[tuple[str, str, int]]
COSTS = {"seconds": "seconds", "peak_gb": "peak GB", "bytes": "stored MB"}


@dataclass(frozen=True)
class Cell:
    """``rank``: 1 the best of its column, 2 the second, 0 neither."""

    interval: Interval
    pairs: int
    rank: int = 0


@dataclass(frozen=True)
class Table:
    """``cells[method][figure]``; ``costs[method]`` means over pairs. ``methods``: titles by method, in the order of rows;
    ``figures``: whether more is better, by name; ``notes``: which models judged, and how well."""

    methods: Mapping[str, str]
    figures: Mapping[str, bool]
    cells: dict[str, dict[str, Cell]]
    costs: dict[str, dict[str, float]]
    notes: Sequence[str] = ()


def keys_of(rows: Sequence[Row], method: str, figure: str) -> Keys:
    """(pair, prompt, seed) of the pictures of a method that the figure's metric has judged."""
    metrics = {row.metric for row in rows if row.figure == figure}
    return frozenset((r.pair, r.prompt, r.seed) for r in rows if r.method == method and r.metric in metrics)


def shown_by(rows: Sequence[Row], method: str, figure: str) -> Keys:
    """(pair, prompt, seed) of the pictures of a method that have the figure."""
    return frozenset(
        (r.pair, r.prompt, r.seed) for r in rows if (r.method, r.figure) == (method, figure) and not math.isnan(r.value)
    )


def pair_means(rows: Sequence[Row], method: str, figure: str, among: Keys | None = None) -> dict[str, float]:
    """A method's mean of a figure on each pair, pictures that have none left out; ``among``: of these pictures only."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row.method != method or row.figure != figure or math.isnan(row.value):
            continue
        if among is None or (row.pair, row.prompt, row.seed) in among:
            values.setdefault(row.pair, []).append(row.value)
    return {pair: sum(v) / len(v) for pair, v in values.items()}


def _costs(folder: Path, method: str, pairs: Iterable[str]) -> dict[str, float]:
    """Means over these pairs."""
    paths = [folder / "costs" / pair / f"{method}.json" for pair in pairs]
    found = [read_cost(path) for path in paths if path.exists()]
    means = {}
    for key in COSTS:
        values = [float(cost[key]) for cost in found if cost.get(key) is not None]
        if values:
            means[key] = sum(values) / len(values) / (1e6 if key == "bytes" else 1)
    return means


def _ordered(rows: Sequence[Row]) -> dict[str, str]:
    """The methods that a bench has, as `magictailor recipes` lists them, under their own names."""
    known = [name for group in CATALOGUE.values() for name in group]
    there = {row.method for row in rows}
    return {m: m for m in sorted(there, key=lambda m: known.index(m) if m in known else len(known))}


def _ranks(rows: Sequence[Row], methods: Iterable[str], figure: str, up: bool) -> dict[str, int]:
    """1 the best, 2 the second, of the methods that were judged on all pictures that any was; the others are not compared.

    Equal means share a rank. On fewer than six pairs none has one: no test could tell the best from the second.
    """
    keys = {method: keys_of(rows, method, figure) for method in methods}
    every = Keys().union(*keys.values())
    if len({pair for pair, *_ in every}) < FEWEST:
        return {}
    whole = {m: list(pair_means(rows, m, figure).values()) for m in keys if keys[m] == every}
    means = {m: round(sum(values) / len(values), DIGITS) for m, values in whole.items() if values}
    better = {m: sum(other > mean if up else other < mean for other in means.values()) for m, mean in means.items()}
    return {m: count + 1 for m, count in better.items() if count < 2} if len(means) > 1 else {}


def chosen(rows: Sequence[Row], only: Sequence[str] = ()) -> dict[str, bool]:
    """The figures that these rows have, or those named; whether more is better. Raises InputError for one that is not there."""
    there = {row.figure for row in rows}
    figures = {name: up for name, up in directions().items() if name in there}
    if unknown := [name for name in only if name not in figures]:
        raise InputError(f"--figures {unknown[0]}: choose from {','.join(figures)}")
    return {name: figures[name] for name in only or figures}


def make_table(folder: Path, paper: str | None = None, only: Sequence[str] = ()) -> Table:
    """Of all finished units, ranked where they saw the same pictures.

    Args:
        paper: the rows of that table of the paper, those too that this bench lacks.
        only: these figures, in this order; all, unless given.

    Raises:
        InputError: nothing is finished, or no such table or figure.
    """
    rows = all_rows(folder)
    if not rows:
        raise InputError(f"{folder}: no finished unit in it; magictailor bench run SPEC --output {folder}")
    if paper is not None and paper not in TABLES:
        raise InputError(f"--paper {paper}: choose one of {', '.join(TABLES)}")
    methods = dict(TABLES[paper].rows) if paper is not None else _ordered(rows)
    figures = chosen(rows, only)
    cells: dict[str, dict[str, Cell]] = {method: {} for method in methods}
    for figure in figures:
        ranks = _ranks(rows, methods, figure, figures[figure])
        for method in methods:
            if means := list(pair_means(rows, method, figure).values()):
                cells[method][figure] = Cell(bootstrap(means), len(means), ranks.get(method, 0))
    costs = {m: _costs(folder, m, {row.pair for row in rows if row.method == m}) for m in methods}
    return Table(methods, figures, cells, costs, judges_told(folder))


def judges_told(folder: Path) -> list[str]:
    """A line about each model that judged; the world's own with its accuracy on held-out renders."""
    judges = all_judges(folder)
    lines = [f"{metric}: {model}" for metric, model in judges.items()]
    if any(judge_name() in model for model in judges.values()):
        lines.append(accuracy_line())
    return lines


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
    """In the order of `COSTS`; empty where nothing is known."""
    return [_number(table.costs[method].get(key, math.nan)) for key in COSTS]


def published(method: str) -> str:
    """What the paper prints for it; empty where it prints nothing."""
    return next(
        (named.published for group in CATALOGUE.values() for name, named in group.items() if name == method), ""
    )


def _grid(table: Table, marks: tuple[str, str], arrows: tuple[str, str]) -> list[list[str]]:
    """Rows of texts, the head first; ``arrows``: after a figure where less is better, and where more is."""
    titles = [f"{name} {arrows[up]}" for name, up in table.figures.items()]
    lines = [["method", *titles, *COSTS.values(), "pairs", "published"]]
    for method, title in table.methods.items():
        cells = table.cells[method]
        figures = [cell_text(cells.get(f), marks) for f in table.figures]
        lines.append([title, *figures, *cost_texts(table, method), _pairs(table, method), published(method)])
    return lines


def _pairs(table: Table, method: str) -> str:
    return str(max((cell.pairs for cell in table.cells[method].values()), default=0))


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Rows of texts, the head first, as columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in lines]


def piped(lines: Sequence[Sequence[str]]) -> list[str]:
    """The same in Markdown."""
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
    """A mean and its interval in three columns, unmarked."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    spread = [f"{name}{end}" for name in table.figures for end in ("", " low", " high")]
    write(["method", *spread, *COSTS.values(), "pairs", "published"])
    for method, title in table.methods.items():
        values: list[object] = []
        for name in table.figures:
            cell = table.cells[method].get(name)
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
