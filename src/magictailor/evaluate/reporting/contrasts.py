"""Paired contrasts of methods: the difference on common pairs, its interval, p corrected within the table, and power."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.evaluate.anchor_names import ANCHORS
from magictailor.evaluate.metrics import higher_is_better
from magictailor.evaluate.reporting.paper import CLAIMS, Claim, paper_shares
from magictailor.evaluate.reporting.statistics import (
    ALPHA,
    MIN_PAIRS,
    Interval,
    detectable_effect,
    holm,
    no_worse_test,
    pairs_needed,
    sign_flip_interval,
    sign_flip_test,
)
from magictailor.evaluate.reporting.tables import DIGITS, finished_scores, method_order, select_metrics
from magictailor.evaluate.scores import Scores, common
from magictailor.evaluate.spec import Endpoint

HEADER = ("metric", "difference", "p", "Holm", "of the error", "detectable", "pairs")
MULTIPLICITY = (
    "Holm: p corrected for the number of rows of this table. A result in words needs a corrected p below 0.05."
)
MOST_PAIRS = 1000  # that anyone would run
UNPUBLISHED = 0.25  # of the error: an effect that would be worth showing, where the paper prints none
TO_ZERO = ("error", "pollution", "imbalance")  # ends of names: 0 is without error
FROM_ZERO = ("text", "identity", "found", "features", "clip-t", "clip-i", "dino", "dinov2")  # 1 is without error


@dataclass(frozen=True)
class Contrast:
    """A method minus a baseline on each pair, over the images that have a value of the metric from both.

    error: the baseline's mean error, to compare with the paper's effects; NaN where the metric has no scale.
    margin: the question is whether the method is no worse than that; None: whether there is a difference.
    corrected: p, corrected within its table; None: it is the only one that was named.
    """

    method: str
    against: str
    metric: str
    differences: tuple[float, ...]
    higher_is_better: bool
    error: float = math.nan
    margin: float | None = None
    corrected: float | None = None

    @cached_property
    def interval(self) -> Interval:
        """The mean difference and its sign-flip interval."""
        return sign_flip_interval(self.differences)

    @cached_property
    def p(self) -> float:
        """Of the sign-flip test, one-sided with a margin; NaN below `MIN_PAIRS`."""
        if len(self.differences) < MIN_PAIRS:
            return math.nan
        if self.margin is None:
            return sign_flip_test(self.differences)
        return no_worse_test([self._direction * d for d in self.differences], self.margin)

    @property
    def _direction(self) -> int:
        return 1 if self.higher_is_better else -1

    @cached_property
    def detectable(self) -> float:
        """See `detectable_effect`."""
        return detectable_effect(self.differences)

    @property
    def gain(self) -> float:
        """The mean difference as a share of the baseline's error; positive if better."""
        return self._direction * self.interval.mean / self.error if self.error else math.nan

    @property
    def result(self) -> str:
        """In words."""
        p = self.p if self.corrected is None else self.corrected
        if len(self.differences) < MIN_PAIRS:
            return "too few pairs"
        if self.margin is not None:
            return f"no worse by {self.margin:g}" if p < ALPHA else f"may be worse by {self.margin:g}"
        if p >= ALPHA:
            return "no difference shown"
        return "better" if (self.interval.mean > 0) == self.higher_is_better else "worse"


def make_contrast(
    scores: Scores, method: str, against: str, metric: str, margin: float | None = None
) -> Contrast | None:
    """None if the two have no image with a value of the metric in common."""
    higher = higher_is_better().get(metric, True)
    among = common([scores.values(name, metric).image for name in (method, against)])
    own, other = (scores.pair_means(name, metric, among) for name in (method, against))
    differences = tuple(round(own[pair] - other[pair], DIGITS) for pair in sorted(own))
    if not differences:
        return None
    level = sum(other.values()) / len(other)
    error = 1 - level if metric in FROM_ZERO else level if metric.endswith(TO_ZERO) and level > 0 else math.nan
    return Contrast(method, against, metric, differences, higher, error, margin)


def with_holm(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """The contrasts of one table, corrected for their number."""
    corrected = holm([contrast.p for contrast in contrasts])
    return [replace(c, corrected=p) for c, p in zip(contrasts, corrected, strict=True)]


def named_contrasts(scores: Scores, endpoints: Sequence[Endpoint]) -> list[Contrast]:
    """The contrasts of these endpoints, as one table."""
    made = [make_contrast(scores, e.method, e.against, e.metric, e.margin) for e in endpoints]
    return with_holm([contrast for contrast in made if contrast is not None])


def contrasts(bench: Path, against: str, metrics: Sequence[str] = (), scores: Scores | None = None) -> list[Contrast]:
    """All methods of a bench, against one of them. Raises InputError if that one has no finished trial."""
    scores = scores or finished_scores(bench)
    methods = method_order(scores.methods)
    if against not in methods:
        present = ", ".join(methods) or "none yet"
        raise InputError(f"{against}: not in this bench", f"choose one of {present}", field="against")
    made = [
        make_contrast(scores, method, against, metric)
        for method in methods
        if method != against and method not in ANCHORS
        for metric in select_metrics(scores, metrics)
    ]
    return with_holm([contrast for contrast in made if contrast is not None])


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper, and the contrast that tests it."""

    claim: Claim
    contrast: Contrast

    @property
    def result(self) -> str:
        """In words; "holds" and "does not hold" need a corrected p below 0.05, and the latter an opposite difference."""
        words = {"no difference shown": "undecided", "better": "holds", "worse": "does not hold"}
        return words.get(self.contrast.result, self.contrast.result)

    @property
    def published(self) -> str:
        """The paper's effect as shares of the error, by its metrics."""
        shares = paper_shares(self.claim)
        return ", ".join(f"{share:+.0%} {name}" for name, share in shares.items())

    @property
    def needed(self) -> str:
        """What would decide it, if it is undecided: pairs, for the paper's effect, or for `UNPUBLISHED` of the error."""
        if self.result != "undecided" or math.isnan(self.contrast.error):
            return ""
        shares = list(paper_shares(self.claim).values())
        share, words = (
            (sum(shares) / len(shares), "as large as the paper's") if shares else (UNPUBLISHED, f"of {UNPUBLISHED:.0%} of the error")
        )  # fmt: skip
        count = pairs_needed(self.contrast.differences, share * self.contrast.error)
        if count is None:
            return ""
        if count <= len(self.contrast.differences):
            return f"an effect {words} would be seen with these pairs"
        return f"{count if count <= MOST_PAIRS else f'over {MOST_PAIRS:,}'} pairs for an effect {words}"


def verdicts(bench: Path, scores: Scores | None = None, claims: Sequence[Claim] = CLAIMS) -> list[Verdict]:
    """The paper's claims about methods that the bench has."""
    scores = scores or finished_scores(bench)
    found = [(claim, make_contrast(scores, claim.better, claim.worse, claim.metric)) for claim in claims]
    present = [(claim, contrast) for claim, contrast in found if contrast is not None]
    corrected = with_holm([contrast for _, contrast in present])
    return [Verdict(claim, contrast) for (claim, _), contrast in zip(present, corrected, strict=True)]


def _spread(interval: Interval) -> str:
    return "" if math.isnan(interval.low) else f"[{interval.low:+.3f}, {interval.high:+.3f}]"


def p_text(p: float) -> str:
    """Three decimals; empty for NaN."""
    return "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def contrast_texts(c: Contrast) -> list[str]:
    """In the columns of `HEADER`; empty if there are too few pairs."""
    difference = f"{c.interval.mean:+.3f} {_spread(c.interval)}".rstrip()
    detectable = "" if math.isnan(c.detectable) else f"{c.detectable:.3f}"
    corrected = "" if c.corrected is None else p_text(c.corrected)
    gain = "" if math.isnan(c.gain) else f"{c.gain:+.0%}"
    return [c.metric, difference, p_text(c.p), corrected, gain, detectable, str(len(c.differences))]


def contrast_lines(found: Sequence[Contrast]) -> list[list[str]]:
    """Contrasts as rows of texts, the header first."""
    lines = [[f"{c.method} against {c.against}", c.result, *contrast_texts(c)] for c in found]
    return [["contrast", "result", *HEADER], *lines]


def verdict_lines(found: Sequence[Verdict]) -> list[list[str]]:
    """Verdicts as rows of texts, the header first."""
    lines = [[v.claim.text, v.result, *contrast_texts(v.contrast), v.published, v.needed] for v in found]
    return [["claim", "result", *HEADER, "the paper's", "it would take"], *lines]
