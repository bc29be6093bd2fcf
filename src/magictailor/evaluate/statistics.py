"""How sure a table is: intervals and tests over pairs, the unit that repeats."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

DRAWS, SEED, LEVEL = 10_000, 0, 0.95
EXACT = 14  # pairs, up to which all signs are tried
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Sequence[float]) -> Interval:
    """The percentile interval of the mean, pairs drawn with replacement. One pair has no interval (it is not a number)."""
    data = np.asarray(values, np.float64)
    if len(data) < 2:
        return Interval(float(data.mean()) if len(data) else float("nan"), float("nan"), float("nan"))
    rows = np.random.default_rng(SEED).integers(0, len(data), (DRAWS, len(data)))
    low, high = np.quantile(data[rows].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(data.mean()), float(low), float(high))


def paired(one: Sequence[float], other: Sequence[float]) -> Interval:
    """The difference of two methods on the same pairs, one minus other."""
    return bootstrap((np.asarray(one, np.float64) - np.asarray(other, np.float64)).tolist())


def sign_flip(differences: Sequence[float]) -> float:
    """The two-sided p of a mean this far from 0, if each pair's sign were a coin's: exact up to 14 pairs, then drawn."""
    data = np.asarray(differences, np.float64)
    count = len(data)
    signs: Floats
    if count <= EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=count)))
    else:
        signs = np.random.default_rng(SEED).choice([-1.0, 1.0], (DRAWS, count))
    means, own = np.abs(signs @ data) / count, abs(float(data.mean()))
    return float((means >= own - 1e-12).mean())


def detectable(differences: Sequence[float]) -> float:
    """The true difference that this many pairs, as scattered as these, would show in four of five benches (5 %, two-sided)."""
    data = np.asarray(differences, np.float64)
    if len(data) < 2:
        return float("nan")
    return float((1.959964 + 0.841621) * data.std(ddof=1) / np.sqrt(len(data)))
