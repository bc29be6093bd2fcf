"""Each method against one other, on the pairs that both have: the difference, how sure it is, and what could be seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.evaluate.metrics import directions
from magictailor.evaluate.records import Row, all_rows
from magictailor.evaluate.reporting.paper import CLAIMS, Claim
from magictailor.evaluate.reporting.statistics import (
    FEWEST,
    SURE,
    Interval,
    bootstrap,
    detectable,
    sign_flip,
    sign_flip_interval,
)
from magictailor.evaluate.reporting.tables import DIGITS, pair_means, shown_by

HEADS = ("figure", "difference", "bootstrap", "p", "could be seen", "pairs")
EACH = "Each by itself: of twenty contrasts without any true difference about one has p < 0.05."


@dataclass(frozen=True)
class Contrast:
    """Method minus reference on each pair, over the pictures that have the figure by both."""

    method: str
    figure: str
    differences: tuple[float, ...]
    higher: bool  # is better

    @cached_property
    def interval(self) -> Interval:
        """The mean, and what the sign-flip test does not refute."""
        return sign_flip_interval(self.differences)

    @property
    def bootstrap(self) -> Interval:
        """The mean, and its interval by drawing pairs: too narrow for few."""
        return bootstrap(self.differences)

    @cached_property
    def p(self) -> float:
        """Of the sign-flip test."""
        return sign_flip(self.differences)

    @cached_property
    def detectable(self) -> float:
        """The true difference that this many pairs would show in four of five benches."""
        return detectable(self.differences)

    @property
    def says(self) -> str:
        """In words."""
        if len(self.differences) < FEWEST:
            return "too few pairs"
        if self.p >= SURE:
            return "no difference shown"
        return "better" if (self.interval.mean > 0) == self.higher else "worse"


def contrasts(folder: Path, reference: str) -> list[Contrast]:
    """Of all methods of a bench, against ``reference``. Raises InputError where that has no finished unit."""
    rows = all_rows(folder)
    methods = dict.fromkeys(row.method for row in rows)
    if reference not in methods:
        raise InputError(f"--against {reference}: not in this bench; it has {', '.join(methods) or 'nothing yet'}")
    higher = directions()
    return [
        made
        for method in methods
        if method != reference
        for figure, up in higher.items()
        if (made := _contrast(rows, method, reference, figure, up)) is not None
    ]


@dataclass(frozen=True)
class Verdict:
    """What a bench says of a claim of the paper."""

    claim: Claim
    contrast: Contrast

    @property
    def says(self) -> str:
        """In words: only a difference that is unlikely by chance counts, in either direction."""
        return {"no difference shown": "not shown", "better": "holds", "worse": "the opposite"}.get(
            self.contrast.says, self.contrast.says
        )


def verdicts(folder: Path) -> list[Verdict]:
    """Of each claim of the paper whose two methods are in the bench."""
    rows, higher = all_rows(folder), directions()
    made = [(claim, _contrast(rows, claim.better, claim.worse, claim.figure, higher[claim.figure])) for claim in CLAIMS]
    return [Verdict(claim, contrast) for claim, contrast in made if contrast is not None]


def _spread(interval: Interval) -> str:
    return "" if math.isnan(interval.low) else f"[{interval.low:+.3f}, {interval.high:+.3f}]"


def _texts(c: Contrast) -> list[str]:
    """In the columns of `HEADS`; what so few pairs cannot say is empty."""
    difference = f"{c.interval.mean:+.3f} {_spread(c.interval)}".rstrip()
    seen = "" if math.isnan(c.detectable) else f"{c.detectable:.3f}"
    return [c.figure, difference, _spread(c.bootstrap), f"{c.p:.3f}", seen, str(len(c.differences))]


def contrast_lines(folder: Path, reference: str) -> list[list[str]]:
    """Of `contrasts`, rows of texts, the head first. Raises InputError: see there."""
    lines = [[c.method, c.says, *_texts(c)] for c in contrasts(folder, reference)]
    return [["method", "is", *HEADS], *lines]


def verdict_lines(folder: Path) -> list[list[str]]:
    """Of `verdicts`, rows of texts, the head first."""
    lines = [[v.claim.text, v.says, *_texts(v.contrast)] for v in verdicts(folder)]
    return [["claim", "here", *HEADS], *lines]


def _contrast(rows: Sequence[Row], method: str, reference: str, figure: str, higher: bool) -> Contrast | None:
    among = shown_by(rows, method, figure) & shown_by(rows, reference, figure)
    own, other = (pair_means(rows, m, figure, among) for m in (method, reference))
    differences = tuple(round(own[pair] - other[pair], DIGITS) for pair in sorted(own))
    return Contrast(method, figure, differences, higher) if differences else None
