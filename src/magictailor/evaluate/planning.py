"""What is missing of a bench, read from the footers of its results; no pair is drawn for it."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.evaluate.costs import read_cost
from magictailor.evaluate.metrics.scorer import Scorer
from magictailor.evaluate.records import read_summary
from magictailor.evaluate.spec import Spec
from magictailor.evaluate.trials import Trial
from magictailor.evaluate.work import inputs_of


def missing_scores(home: Path, trial: Trial, spec: Spec, scorers: Mapping[str, Scorer]) -> int | None:
    """The number of images that a scorer has not scored, of the scorer that lacks most; None: nothing has been scored.

    Raises:
        InputError: a damaged file of results.
    """
    summary = read_summary(home / trial.results)
    if not summary.models:
        return None
    words = summary.words or trial.source.read(home / "pairs").words
    keys = trial.keys(spec, list(words))
    return max(
        (len(summary.missing(name, s.model, keys)) if name in summary.models else max(1, len(keys)))
        for name, s in scorers.items()
    )


def unfinished(home: Path, trials: Iterable[Trial], spec: Spec, scorers: Mapping[str, Scorer]) -> Iterator[Trial]:
    """The trials with anything to do, in their order."""
    return (trial for trial in trials if missing_scores(home, trial, spec, scorers) != 0)


def check_costs(home: Path, trials: Iterable[Trial], spec: Spec, base: str) -> None:
    """Raises InputError if an existing trial was made with other settings or another base, or its cost is damaged."""
    for trial in trials:
        cost = read_cost(home / trial.cost)
        if cost is None:
            continue
        for key, value in inputs_of(trial, spec, base).items():
            if cost.of.get(key) != value:
                made = f"another {key.removesuffix('s')}" if key in cost.of else f"a {key} that is not recorded"
                problem = f"{home}: {trial.name} was made with {made}"
                raise InputError(problem, "choose another folder", field="output")
