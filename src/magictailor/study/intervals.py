"""Shares of choices with intervals that know that answers of one rater, and on one group, are alike.

Raters and groups are crossed: each rater answers on each group. With y of rater i on group j,

    y_ij = mean + a_i + b_j + e_ij,    Var(mean) = A sum_i n_i^2 / N^2 + B sum_j m_j^2 / N^2 + E / N,

for n_i answers of rater i, m_j on group j and N in all. A, B and E are estimated without bias for any pattern of missing
answers from three sums of squares (Gao and Owen 2017, Efficient moment calculations for variance components in large
unbalanced crossed random effects models).

Resampling raters and groups and taking percentiles (Owen 2007, The pigeonhole bootstrap) counts E three times; on answers
that are mostly E, its intervals are up to 1.7 times too wide. No resampling of only the rows repairs it (McCullagh 2000).
So the bootstrap here is studentised: each resample is divided by its own standard error, which is inflated as it is
itself, and the quantiles of that ratio are put on the standard error of the data.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from magictailor.evaluate.reporting.statistics import CONFIDENCE, Interval

RESAMPLES, SEED = 2000, 0
QUANTILES = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
FEW = 5  # with fewer choices, or fewer other ones, resamples without any are too frequent for a bootstrap
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Crossed:
    """Values in a table of raters x groups. ``values``: 0 where ``observed`` is 0."""

    values: Floats
    observed: Floats

    @staticmethod
    def of(values: Floats, raters: Ints, groups: Ints) -> "Crossed":
        """From [N] values with the numbers of their raters and groups; raters and groups without a value are left out."""
        row_numbers, rows = np.unique(raters, return_inverse=True)
        column_numbers, columns = np.unique(groups, return_inverse=True)
        table = np.zeros((len(row_numbers), len(column_numbers)))
        observed = np.zeros(table.shape)
        table[rows, columns], observed[rows, columns] = values, 1
        return Crossed(table, observed)


@dataclass(frozen=True)
class VarianceComponents:
    """Variance components and what they make of the mean's variance; each of shape [B], one for each resample."""

    mean: Floats
    rater: Floats
    group: Floats
    rest: Floats
    of_rater: Floats  # sum n_i^2 / N^2
    of_group: Floats
    of_rest: Floats  # 1 / N

    @property
    def variance(self) -> Floats:
        """Of the mean. Components below 0 count as 0."""
        total: Floats = (
            np.maximum(self.rater, 0) * self.of_rater
            + np.maximum(self.group, 0) * self.of_group
            + np.maximum(self.rest, 0) * self.of_rest
        )
        return total


def components(data: Crossed, rater_weights: Floats, group_weights: Floats) -> VarianceComponents:
    """Of resamples: how often each rater [B, R] and each group [B, C] is in them; ones for the data itself.

    A rater who is drawn twice is two raters.
    """
    values, observed, squares = data.values, data.observed, data.values**2
    n, sums = group_weights @ observed.T, group_weights @ values.T  # [B, R], of each rater
    m, column_sums = rater_weights @ observed, rater_weights @ values  # [B, C], of each group
    count, total = (rater_weights * n).sum(1), (rater_weights * sums).sum(1)
    square = ((rater_weights @ squares) * group_weights).sum(1)
    raters, groups = (rater_weights * (n > 0)).sum(1), (group_weights * (m > 0)).sum(1)
    n2, m2 = (rater_weights * n**2).sum(1), (group_weights * m**2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        within_raters = square - (rater_weights * np.where(n > 0, sums**2 / n, 0)).sum(1)
        within_groups = square - (group_weights * np.where(m > 0, column_sums**2 / m, 0)).sum(1)
        group_and_rest = within_raters / (count - raters)
        rater_and_rest = within_groups / (count - groups)
        k = count**2
        rest = ((k - n2) * rater_and_rest + (k - m2) * group_and_rest - (count * square - total**2)) / (
            k - n2 - m2 + count
        )
        return VarianceComponents(
            total / count, rater_and_rest - rest, group_and_rest - rest, rest, n2 / k, m2 / k, 1 / count
        )


def standard_error(data: Crossed) -> tuple[float, float]:
    """The standard error of the mean and its degrees of freedom, by Satterthwaite."""
    raters, groups = data.values.shape
    if raters < 2 or groups < 2:
        return math.nan, math.nan
    found = components(data, np.ones((1, raters)), np.ones((1, groups)))
    rest = max(0.0, float(found.rest[0] * found.of_rest[0]))
    by_rater = max(0.0, float(found.rater[0] * found.of_rater[0])) + rest
    by_group = max(0.0, float(found.group[0] * found.of_group[0])) + rest
    variance = by_rater + by_group - rest
    if not variance > 0:
        return 0.0, math.nan
    spread = by_rater**2 / (raters - 1) + by_group**2 / (groups - 1) + rest**2 / ((raters - 1) * (groups - 1))
    return math.sqrt(variance), variance**2 / spread


def wilson(mean: float, count: float, quantile: float = float(stats.norm.ppf((1 + CONFIDENCE) / 2))) -> Interval:
    """Wilson's interval of a share of ``count`` independent answers."""
    z2 = quantile**2 / count
    middle, half = (
        (mean + z2 / 2) / (1 + z2),
        quantile * math.sqrt(mean * (1 - mean) / count + z2 / (4 * count)) / (1 + z2),
    )
    return Interval(mean, max(0.0, middle - half), min(1.0, middle + half))


def _by_effective_count(data: Crossed, mean: float) -> Interval:
    """Wilson's interval with the number of independent answers that have the same standard error."""
    count = float(data.observed.sum())
    error, freedom = standard_error(data)
    if mean in (0, 1) or not error > 0:
        return wilson(mean, len(data.values))  # as if each rater had answered once
    effective = min(count, mean * (1 - mean) / error**2)
    return wilson(mean, effective, float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)))


def _drawn(data: Crossed, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """How often each rater [B, R] and each group [B, C] is in each resample."""
    rng = np.random.default_rng(seed)
    raters, groups = (rng.multinomial(n, np.full(n, 1 / n), resamples) for n in data.values.shape)
    return raters.astype(np.float64), groups.astype(np.float64)


def share_interval(
    values: Floats, raters: Ints, groups: Ints, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """The mean of values in 0 .. 1 with its 95 % interval, by the studentised bootstrap over raters and groups.

    Where fewer than `FEW` answers chose the method, or fewer than that did not, it is Wilson's interval with the effective
    number of answers. NaN for fewer than two raters or groups.
    """
    data = Crossed.of(values, raters, groups)
    if min(data.values.shape, default=0) < 2:
        return Interval(float(values.mean()) if len(values) else math.nan, math.nan, math.nan)
    mean = float(values.mean())
    error, _ = standard_error(data)
    if min(values.sum(), (1 - values).sum()) < FEW or not error > 0:
        return _by_effective_count(data, mean)
    found = components(data, *_drawn(data, resamples, seed))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (found.mean - mean) / np.sqrt(found.variance)
    low, high = np.quantile(ratios[np.isfinite(ratios)], QUANTILES)
    return Interval(mean, max(0.0, mean - float(high) * error), min(1.0, mean - float(low) * error))


def percentile_interval(
    values: Floats, raters: Ints, groups: Ints, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """The plain two-way bootstrap, which is too wide; to compare with."""
    data = Crossed.of(values, raters, groups)
    rater_weights, group_weights = _drawn(data, resamples, seed)
    sums = ((rater_weights @ data.values) * group_weights).sum(1)
    counts = ((rater_weights @ data.observed) * group_weights).sum(1)
    low, high = np.quantile(sums / counts, QUANTILES)
    return Interval(float(values.mean()), float(low), float(high))


def chance_test(chosen: int, count: int, chance: float) -> float:
    """Two-sided exact binomial p: how likely this number of choices is, or a less likely one, if everybody guesses."""
    return float(stats.binomtest(chosen, count, chance).pvalue) if count else math.nan
