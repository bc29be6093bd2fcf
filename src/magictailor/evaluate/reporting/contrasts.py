"""Paired contrasts of methods: the difference on common pairs, its interval and p, and the detectable effect."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.evaluate.metrics import higher_is_better
from magictailor.evaluate.records import Row, all_rows
from magictailor.evaluate.reporting.paper import CLAIMS, Claim
from magictailor.evaluate.reporting.statistics import (
    ALPHA,
    MIN_PAIRS,
    Interval,
    bootstrap,
    detectable_effect,
    sign_flip_interval,
    sign_flip_test,
)
from magictailor.evaluate.reporting.tables import DIGITS, pair_means, valued_keys

HEADER = ("metric", "difference", "bootstrap", "p", "detectable", "pairs")
MULTIPLICITY = (
    "Not corrected for multiple comparisons: of twenty contrasts without any true difference about one has p < 0.05."
)


@dataclass(frozen=True)
class Contrast:
    """A method minus a baseline on each pair, over the images that have a value of the metric from both."""

    method: str
    metric: str
    differences: tuple[float, ...]
    higher_is_better: bool

    @cached_property
    def interval(self) -> Interval:
        """The mean difference and its sign-flip interval."""
        return sign_flip_interval(self.differences)

    @property
    def bootstrap(self) -> Interval:
        """The mean difference and its bootstrap interval, too narrow for few pairs."""
        return bootstrap(self.differences)

    @cached_property
    def p(self) -> float:
        """Of the sign-flip test."""
        return sign_flip_test(self.differences)

    @cached_property
    def detectable(self) -> float:
        """See `detectable_effect`."""
        return detectable_effect(self.differences)

    @property
    def result(self) -> str:
        """In words."""
        if len(self.differences) < MIN_PAIRS:
            return "too few pairs"
        if self.p >= ALPHA:
            return "no difference shown"
        return "better" if (self.interval.mean > 0) == self.higher_is_better else "worse"


def contrasts(bench: Path, against: str) -> list[Contrast]:
    """All methods of a bench, against one of them. Raises InputError if that one has no finished unit."""
    rows = all_rows(bench)
    methods = dict.fromkeys(row.method for row in rows)
    if against not in methods:
        present = ", ".join(methods) or "none yet"
        raise InputError(f"{against}: not in this bench", f"choose one of {present}", field="against")
    made = [
        _contrast(rows, method, against, metric, higher)
        for method in methods
        if method != against
        for metric, higher in higher_is_better().items()
    ]
    return [contrast for contrast in made if contrast is not None]


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper, and the contrast that tests it."""

    claim: Claim
    contrast: Contrast

    @property
    def result(self) -> str:
        """In words; "holds" and "the opposite" need p < 0.05."""
        words = {"no difference shown": "not shown", "better": "holds", "worse": "the opposite"}
        return words.get(self.contrast.result, self.contrast.result)


def verdicts(bench: Path) -> list[Verdict]:
    """The paper's claims about methods that the bench has."""
    rows, higher = all_rows(bench), higher_is_better()
    made = [(claim, _contrast(rows, claim.better, claim.worse, claim.metric, higher[claim.metric])) for claim in CLAIMS]
    return [Verdict(claim, contrast) for claim, contrast in made if contrast is not None]


def _spread(interval: Interval) -> str:
    return "" if math.isnan(interval.low) else f"[{interval.low:+.3f}, {interval.high:+.3f}]"


def _texts(c: Contrast) -> list[str]:
    """In the columns of `HEADER`; empty if there are too few pairs."""
    difference = f"{c.interval.mean:+.3f} {_spread(c.interval)}".rstrip()
    detectable = "" if math.isnan(c.detectable) else f"{c.detectable:.3f}"
    return [c.metric, difference, _spread(c.bootstrap), f"{c.p:.3f}", detectable, str(len(c.differences))]


def contrast_lines(bench: Path, against: str) -> list[list[str]]:
    """`contrasts` as rows of texts, the header first. Raises InputError as `contrasts` does."""
    lines = [[c.method, c.result, *_texts(c)] for c in contrasts(bench, against)]
    return [["method", "result", *HEADER], *lines]


def verdict_lines(bench: Path) -> list[list[str]]:
    """`verdicts` as rows of texts, the header first."""
    lines = [[v.claim.text, v.result, *_texts(v.contrast)] for v in verdicts(bench)]
    return [["claim", "result", *HEADER], *lines]


def _contrast(rows: Sequence[Row], method: str, baseline: str, metric: str, higher: bool) -> Contrast | None:
    among = valued_keys(rows, method, metric) & valued_keys(rows, baseline, metric)
    own, other = (pair_means(rows, m, metric, among) for m in (method, baseline))
    differences = tuple(round(own[pair] - other[pair], DIGITS) for pair in sorted(own))
    return Contrast(method, metric, differences, higher) if differences else None
