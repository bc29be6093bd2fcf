"""Each method against one other, on the pairs that both have: the difference, how sure it is, and what could be seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from magictailor.errors import InputError
from magictailor.evaluate.metrics import known_metrics
from magictailor.evaluate.records import Row, all_rows
from magictailor.evaluate.statistics import Interval, detectable, paired, sign_flip
from magictailor.evaluate.tables import pair_means

SURE = 0.05


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
        if self.p >= SURE:
            return "no difference shown"
        return "better" if self.better else "worse"


def contrasts(folder: Path, reference: str) -> list[Contrast]:
    """Of all methods of a bench, against ``reference``. Raises InputError where that has no finished unit."""
    rows = all_rows(folder)
    methods = dict.fromkeys(row.method for row in rows)
    if reference not in methods:
        raise InputError(f"--against {reference}: not in this bench; it has {', '.join(methods) or 'nothing yet'}")
    higher = {name: up for metric in known_metrics() for name, up in metric.higher.items()}
    return [
        made
        for method in methods
        if method != reference
        for figure, up in higher.items()
        if (made := _contrast(rows, method, reference, figure, up)) is not None
    ]


def _contrast(rows: Sequence[Row], method: str, reference: str, figure: str, up: bool) -> Contrast | None:
    own, other = pair_means(rows, method, figure), pair_means(rows, reference, figure)
    both = sorted(own.keys() & other.keys())
    if not both:
        return None
    one, two = [own[pair] for pair in both], [other[pair] for pair in both]
    differences = [a - b for a, b in zip(one, two, strict=True)]
    difference = paired(one, two)
    better = (difference.mean > 0) == up
    return Contrast(method, figure, difference, len(both), sign_flip(differences), detectable(differences), better)
