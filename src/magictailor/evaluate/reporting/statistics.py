"""Intervals and tests over pairs, which are the independent samples of a bench."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

RESAMPLES, SEED = 10_000, 0
ALPHA = 0.05
CONFIDENCE = 1 - ALPHA
MAX_EXACT = 14  # pairs: up to this number, all sign flips are enumerated
MIN_PAIRS = 6  # with five pairs, the smallest possible p is 2 / 32
POWER, SIMULATIONS = 0.8, 2000
NORMAL_TWO_SIDED, NORMAL_POWER = 1.96, 0.84  # standard errors, of `ALPHA` and of `POWER`
FEW = 2  # pairs that the spread being estimated costs, by simulation
TOLERANCE = 1e-9  # sums are equal if they differ by less than this share of the sum of absolute values
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Sequence[float]) -> Interval:
    """The mean and its percentile interval, by drawing pairs with replacement. The interval of one pair is NaN.

    It is too narrow for few pairs: on normal data the 95 % interval covers the true mean in 86 of 100 cases with 6 pairs,
    in 89 with 8.
    """
    data = np.asarray(values, np.float64)
    if len(data) < 2:
        return Interval(float(data.mean()) if len(data) else float("nan"), float("nan"), float("nan"))
    rows = np.random.default_rng(SEED).integers(0, len(data), (RESAMPLES, len(data)))
    low, high = np.quantile(data[rows].mean(1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(data.mean()), float(low), float(high))


@cache
def _signs(count: int, resamples: int = RESAMPLES) -> Floats:
    """All sign flips of ``count`` pairs, or a random sample of them for more than `MAX_EXACT`, [rows, count]."""
    if count <= MAX_EXACT:
        return np.array(list(product((-1.0, 1.0), repeat=count)))
    drawn: Floats = np.random.default_rng(SEED).choice([-1.0, 1.0], (resamples, count))
    return np.concatenate([np.ones((1, count)), drawn])  # the observed signs are among them, so p is never 0


def sign_flip_test(differences: Sequence[float]) -> float:
    """Two-sided p of the sign-flip test: the share of sign flips whose sum is at least as extreme as the observed one.

    Assumes that without an effect each difference is equally likely to have either sign. Exact up to `MAX_EXACT` pairs;
    above, the observed signs and `RESAMPLES` random flips.
    """
    data = np.asarray(differences, np.float64)
    return float(_as_extreme(_signs(len(data)), data).mean())


def no_worse_test(gains: Sequence[float], margin: float) -> float:
    """One-sided p of the sign-flip test against a mean gain of ``-margin`` or lower; a gain is positive if better."""
    data = np.asarray(gains, np.float64) + margin
    least = data.sum() - TOLERANCE * np.abs(data).sum()
    return float((_signs(len(data)) @ data >= least).mean())


def _as_extreme(signs: Floats, data: Floats) -> NDArray[np.bool_]:
    """For each row of signs, whether its sum is at least as far from 0 as the sum of the data."""
    found: NDArray[np.bool_] = np.abs(signs @ data) >= abs(data.sum()) - TOLERANCE * np.abs(data).sum()
    return found


def sign_flip_interval(differences: Sequence[float]) -> Interval:
    """The mean, and the means m for which `sign_flip_test` of (differences - m) has p >= 5 %. NaN below `MIN_PAIRS`.

    Assumes that differences scatter symmetrically around the true mean. A sign flip splits the pairs into kept and flipped
    ones, with sums x and y of (difference - m). |x - y| >= |x + y| holds exactly if x and y do not have the same sign,
    that is, if m lies between the means of the two groups. So p(m) is the share of splits whose two means enclose m, and
    the ends are order statistics of the smaller and of the larger means (Hartigan 1969, Using subsample values as typical
    values).
    """
    data = np.asarray(differences, np.float64)
    if len(data) < MIN_PAIRS:
        return Interval(float(data.mean()) if len(data) else float("nan"), float("nan"), float("nan"))
    flipped = _signs(len(data)) < 0
    splits = flipped[flipped.any(1) & ~flipped.all(1)]
    unsplit = len(flipped) - len(splits)  # as extreme for every m
    means = np.array([splits @ data / splits.sum(1), ~splits @ data / (~splits).sum(1)])
    rank = math.ceil(ALPHA * len(flipped)) - unsplit  # this number of splits makes p 5 %
    low, high = np.sort(means.min(0))[rank - 1], np.sort(means.max(0))[-rank]
    return Interval(float(data.mean()), float(low), float(high))


@cache
def _shift(count: int) -> float:
    """The true mean, in standard deviations, that the sign-flip test detects with power `POWER` on ``count`` normal pairs."""
    noise = np.random.default_rng(SEED).standard_normal((SIMULATIONS, count))
    signs = _signs(count, 1000)

    def power(shift: float) -> float:
        data = noise + shift
        return float(np.mean([_as_extreme(signs, row).mean() < ALPHA for row in data]))

    low, high = 0.0, 8.0
    while high - low > 0.02:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def detectable_effect(differences: Sequence[float]) -> float:
    """The true mean difference that the sign-flip test detects with power `POWER`, with this number and spread of pairs.

    NaN if fewer than `MIN_PAIRS` pairs differ: then no effect is detectable.
    """
    data = np.asarray(differences, np.float64)
    if np.count_nonzero(data) < MIN_PAIRS:
        return float("nan")
    return _shift(len(data)) * float(data.std(ddof=1))


def pairs_needed(differences: Sequence[float], effect: float) -> int | None:
    """The number of pairs with which a true difference ``effect`` is shown with power `POWER`, at this spread of pairs.

    By the normal approximation and `FEW` more, and at least `MIN_PAIRS`. None if the spread is not known or the effect is 0.
    """
    data = np.asarray(differences, np.float64)
    if len(data) < 3 or effect == 0 or not np.any(data - data[0]):
        return None
    both = NORMAL_TWO_SIDED + NORMAL_POWER
    return max(MIN_PAIRS, math.ceil((both * float(data.std(ddof=1)) / effect) ** 2) + FEW)


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979): the smallest times n, the next times n - 1, and so on, rising.

    NaN stays NaN and does not count.
    """
    known = [i for i, value in enumerate(values) if not math.isnan(value)]
    corrected, highest = [math.nan] * len(values), 0.0
    for rank, i in enumerate(sorted(known, key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(known) - rank) * values[i]))
        corrected[i] = highest
    return corrected
