"""Each method against one other, on the pairs that both have: the difference, how sure it is, and what could be seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from magictailor.errors import InputError
from magictailor.evaluate.metrics import directions
from magictailor.evaluate.records import Row, all_rows
from magictailor.evaluate.reporting.paper import CLAIMS, Claim
from magictailor.evaluate.reporting.statistics import FEWEST, Interval, detectable, paired, sign_flip
from magictailor.evaluate.reporting.tables import keys_of, pair_means

SURE = 0.05
NUMBERS = ("figure", "difference", "p", "could be seen", "pairs")


@dataclass(frozen=True)
class Contrast:
    """``difference``: method minus reference, over ``pairs``; ``p``: of the sign-flip test; ``detectable``: the true difference that
    this many pairs would show in four of five benches."""

    method: str
    figure: str
    difference: Interval
    pairs: int
    p: float
    detectable: float
    better: bool  # in the figure's own direction

    @property
    def says(self) -> str:
        """In words."""
        if self.pairs < FEWEST:
            return "too few pairs"
        if self.p >= SURE:
            return "no difference shown"
        return "better" if self.better else "worse"


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


def _texts(c: Contrast) -> list[str]:
    """In the columns of `NUMBERS`; what so few pairs cannot say is empty."""
    spread = f" [{c.difference.low:+.3f}, {c.difference.high:+.3f}]" if c.pairs > 1 else ""
    seen = f"{c.detectable:.3f}" if c.pairs >= FEWEST else ""
    return [c.figure, f"{c.difference.mean:+.3f}{spread}", f"{c.p:.3f}", seen, str(c.pairs)]


def contrast_lines(folder: Path, reference: str) -> list[list[str]]:
    """Of `contrasts`, rows of texts, the head first. Raises InputError: see there."""
    lines = [[c.method, c.says, *_texts(c)] for c in contrasts(folder, reference)]
    return [["method", "is", *NUMBERS], *lines]


def verdict_lines(folder: Path) -> list[list[str]]:
    """Of `verdicts`, rows of texts, the head first."""
    lines = [[v.claim.text, v.says, *_texts(v.contrast)] for v in verdicts(folder)]
    return [["claim", "here", *NUMBERS], *lines]


def _contrast(rows: Sequence[Row], method: str, reference: str, figure: str, up: bool) -> Contrast | None:
    among = keys_of(rows, method, figure) & keys_of(rows, reference, figure)
    own, other = (pair_means(rows, m, figure, among) for m in (method, reference))
    both = sorted(own.keys() & other.keys())
    if not both:
        return None
    one, two = [own[pair] for pair in both], [other[pair] for pair in both]
    differences = [a - b for a, b in zip(one, two, strict=True)]
    difference = paired(one, two)
    better = (difference.mean > 0) == up
    return Contrast(method, figure, difference, len(both), sign_flip(differences), detectable(differences), better)
