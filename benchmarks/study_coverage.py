"""How often the 95 % intervals of a study's table hold the true share, over simulated studies with known preferences.

    python benchmarks/study_coverage.py --studies 1000

Raters and groups are drawn anew for each study from `magictailor.study.preferences`; the truth is the share among all raters
and groups there could be. Nothing of it is an answer of a person.
"""

import argparse
from collections.abc import Callable
from multiprocessing import Pool

import numpy as np
from numpy.typing import NDArray

from magictailor.evaluate.reporting.statistics import Interval
from magictailor.study.intervals import percentile_interval, share_interval, wilson
from magictailor.study.preferences import Preferences

SHARES = (0.565, 0.153, 0.108, 0.071, 0.058, 0.045)  # text alignment in the paper's table 2
SCENARIOS = {  # raters, groups, spread between raters and between groups, share of raters who stop early
    "the paper's size, moderate spread": (53, 20, 0.5, 0.5, 0.0),
    "no spread": (53, 20, 0.0, 0.0, 0.0),
    "groups differ much": (53, 20, 0.0, 1.0, 0.0),
    "both differ much": (53, 20, 1.0, 1.0, 0.0),
    "20 raters, moderate spread": (20, 20, 0.5, 0.5, 0.0),
    "20 raters, no spread": (20, 20, 0.0, 0.0, 0.0),
    "four of ten raters stop early": (53, 20, 0.5, 0.7, 0.4),
}
RESAMPLES = 1000
Ints = NDArray[np.int64]


def bootstrap(values: NDArray[np.float64], raters: Ints, groups: Ints) -> Interval:
    return share_interval(values, raters, groups, RESAMPLES)


def plain(values: NDArray[np.float64], raters: Ints, groups: Ints) -> Interval:
    return percentile_interval(values, raters, groups, RESAMPLES)


def independent(values: NDArray[np.float64], raters: Ints, groups: Ints) -> Interval:
    return wilson(float(values.mean()), len(values))


INTERVALS: dict[str, Callable[..., Interval]] = {
    "studentised bootstrap": bootstrap,
    "plain bootstrap": plain,
    "Wilson": independent,
}


def covered(task: tuple[str, int, int]) -> NDArray[np.int64]:
    """How many of the studies' intervals hold the truth, [intervals, methods]."""
    name, first, last = task
    raters, groups, rater_spread, group_spread, stopping = SCENARIOS[name]
    preferences = Preferences(SHARES, rater_spread, group_spread)
    utilities, counts = preferences.utilities(), np.zeros((len(INTERVALS), len(SHARES)), np.int64)
    for study in range(first, last):
        rng = np.random.default_rng(study)
        chosen, answered = preferences.choose(raters, groups, rng, utilities), np.ones((raters, groups), bool)
        for rater in np.flatnonzero(rng.random(raters) < stopping):
            answered[rater, rng.permutation(groups)[rng.integers(1, groups) :]] = False
        rows, columns = np.nonzero(answered)
        for method, share in enumerate(SHARES):
            values = (chosen[rows, columns] == method).astype(np.float64)
            for number, interval in enumerate(INTERVALS.values()):
                found = interval(values, rows, columns)
                counts[number, method] += found.low <= share <= found.high
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--scenarios", nargs="*", default=list(SCENARIOS))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    print(
        f"{options.studies} studies each; a coverage's own error is about {100 * (0.95 * 0.05 / options.studies) ** 0.5:.1f} points for one method"
    )
    step = 20
    with Pool(options.processes) as pool:
        for name in options.scenarios:
            tasks = [(name, first, min(first + step, options.studies)) for first in range(0, options.studies, step)]
            counts = sum(pool.imap_unordered(covered, tasks), np.zeros((len(INTERVALS), len(SHARES)), np.int64))
            for interval, row in zip(INTERVALS, 100 * counts / options.studies, strict=True):
                each = ", ".join(f"{value:.1f}" for value in row)
                print(f"{name:<36}{interval:<24}{row.mean():5.1f} %   by method: {each}", flush=True)


if __name__ == "__main__":
    main()
