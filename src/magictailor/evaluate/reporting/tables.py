"""Tables of a bench: floor, methods and ceiling in rows, metrics in columns, intervals over pairs, costs and recipes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.evaluate.anchor_names import ANCHORS
from magictailor.evaluate.costs import Cost, read_cost
from magictailor.evaluate.metrics import higher_is_better
from magictailor.evaluate.metrics.judging import accuracy_line, judge_name
from magictailor.evaluate.records import scorer_models
from magictailor.evaluate.reporting.paper import TABLES
from magictailor.evaluate.reporting.shares import FLOORS, share_means
from magictailor.evaluate.reporting.statistics import MIN_PAIRS, Interval, bootstrap
from magictailor.evaluate.scores import Scores, read_scores
from magictailor.methods import ENTRIES, REFERENCE_ONLY

DIGITS = 9  # means that agree to this number of decimals are equal
COSTS = {
    "seconds": "training s", "images_seen": "photos seen", "image_seconds": "s per image", "peak_gb": "peak GB", "bytes": "stored MB",
}  # fmt: skip
ABOVE, BELOW = ("nothing-transferred", "owner", "captions"), ("truth",)  # the anchors' rows


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
    ``recipes``: in words, by method; ``notes``: the models that scored, and the judge's accuracy.
    """

    methods: Mapping[str, str]
    metrics: Mapping[str, bool]
    cells: dict[str, dict[str, Cell]]
    costs: dict[str, dict[str, float]]
    recipes: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def read_costs(bench: Path, methods: Iterable[str], pairs: Iterable[str]) -> dict[str, list[Cost]]:
    """The costs of each method's trainings on these pairs."""
    pairs = list(pairs)
    found: dict[str, list[Cost]] = {method: [] for method in methods}
    for pair in pairs:
        for path in sorted((bench / "costs" / pair).glob("*.json")):
            method = path.stem.partition("@")[0]
            if method in found and (cost := read_cost(path)) is not None:
                found[method].append(cost)
    return found


def _mean_costs(costs: Sequence[Cost]) -> dict[str, float]:
    """Means over trainings; seconds of an image over all images."""
    means = {}
    for key, scale in (("seconds", 1.0), ("images_seen", 1.0), ("peak_gb", 1.0), ("bytes", 1e6)):
        values = [float(value) for cost in costs if (value := getattr(cost, key)) is not None]
        if values:
            means[key] = sum(values) / len(values) / scale
    images = sum(cost.generated.images for cost in costs)
    if images:
        means["image_seconds"] = sum(cost.generated.seconds for cost in costs) / images
    return means


def _recipe(costs: Sequence[Cost]) -> str:
    """Of the first training; a note where others differ in more than their seed."""
    lines = {cost.recipe.rpartition("; seed")[0] or cost.recipe: None for cost in costs if cost.recipe}
    return " / ".join(lines)


def method_order(methods: Iterable[str]) -> list[str]:
    """Floor, methods in the order of `magictailor recipes`, ceiling."""
    known = [*ABOVE, *ENTRIES, REFERENCE_ONLY]
    last = len(known) + 1
    return sorted(methods, key=lambda m: (last if m in BELOW else known.index(m) if m in known else len(known), m))


def _ranks(scores: Scores, methods: Iterable[str], metric: str, higher: bool) -> dict[str, int]:
    """1 for the best and 2 for the second-best method; anchors have no rank.

    A method is ranked only if it was scored on every image that any of the methods was. Equal means share a rank. Nothing
    is ranked on fewer than `MIN_PAIRS` pairs: no test could distinguish the best from the second-best.
    """
    scored = {m: frozenset(scores.scored(m, metric).tolist()) for m in methods if m not in ANCHORS}
    every = frozenset[int]().union(*scored.values())
    complete = [method for method, images in scored.items() if images == every]
    values = {method: list(scores.pair_means(method, metric).values()) for method in complete}
    if max((len(v) for v in values.values()), default=0) < MIN_PAIRS:
        return {}
    means = {m: round(sum(v) / len(v), DIGITS) for m, v in values.items() if v}
    better = {m: sum(other > mean if higher else other < mean for other in means.values()) for m, mean in means.items()}
    return {m: count + 1 for m, count in better.items() if count < 2} if len(means) > 1 else {}


def select_metrics(scores: Scores, metrics: Sequence[str] = ()) -> dict[str, bool]:
    """The metrics in the scores, or ``metrics``; whether higher is better. Raises InputError for one that is missing."""
    present = {metric: higher for metric, higher in higher_is_better().items() if metric in scores.metrics}
    if unknown := [metric for metric in metrics if metric not in present]:
        raise InputError(f"{unknown[0]}: not in this bench", f"choose from {','.join(present)}", field="metrics")
    return {metric: present[metric] for metric in metrics or present}


def _cells(scores: Scores, methods: Iterable[str], metric: str, higher: bool) -> dict[str, Cell]:
    methods = list(methods)
    ranks = _ranks(scores, methods, metric, higher)
    means = {method: list(scores.pair_means(method, metric).values()) for method in methods}
    return {m: Cell(bootstrap(values), len(values), ranks.get(m, 0)) for m, values in means.items() if values}


def _share_cells(scores: Scores, methods: Iterable[str], share: str) -> dict[str, Cell]:
    means = {method: list(share_means(scores, method, share).values()) for method in methods}
    return {m: Cell(bootstrap(values), len(values)) for m, values in means.items() if values}


def finished_scores(bench: Path) -> Scores:
    """All scores of a bench. Raises InputError if there are none."""
    scores = read_scores(bench)
    if not len(scores):
        raise InputError(
            f"{bench}: no finished unit in it", f"run `magictailor bench run SPEC --output {bench}`", field="bench"
        )
    return scores


def make_table(
    bench: Path, paper: str | None = None, metrics: Sequence[str] = (), scores: Scores | None = None
) -> Table:
    """The table of all finished trials.

    Args:
        paper: the number of a table of the paper, for its rows, including methods that this bench lacks.
        metrics: the columns; all metrics, and the shares of the way to the truth, if empty.
        scores: of the bench, if they have been read.

    Raises:
        InputError: no finished trial, or no such table or metric.
    """
    scores = scores or finished_scores(bench)
    if paper is not None and paper not in TABLES:
        raise InputError(f"{paper}: no such table", f"choose one of {', '.join(TABLES)}", field="paper")
    methods = {method: method for method in method_order(scores.methods)}
    if paper is not None:
        ends = [{anchor: anchor for anchor in part if anchor in methods} for part in (ABOVE, BELOW)]
        methods = {**ends[0], **TABLES[paper].rows, **ends[1]}
    columns = select_metrics(scores, metrics)
    by_metric = {metric: _cells(scores, methods, metric, higher) for metric, higher in columns.items()}
    if not metrics:
        shares = {share: found for share in FLOORS if (found := _share_cells(scores, methods, share))}
        columns, by_metric = {**columns, **dict.fromkeys(shares, True)}, {**by_metric, **shares}
    cells = {m: {metric: found[m] for metric, found in by_metric.items() if m in found} for m in methods}
    costs = read_costs(bench, methods, scores.pairs)
    recipes = {method: line for method, found in costs.items() if (line := _recipe(found))}
    means = {method: _mean_costs(found) for method, found in costs.items()}
    return Table(methods, columns, cells, means, recipes, _notes(bench))


def _notes(bench: Path) -> list[str]:
    """A line for each scorer's model; for the world's judge also its accuracy on held-out renders."""
    models = scorer_models(bench)
    lines = [f"{scorer}: {model}" for scorer, model in models.items()]
    if any(judge_name() in model for model in models.values()):
        lines.append(accuracy_line())
    return lines
