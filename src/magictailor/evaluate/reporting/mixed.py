"""A mixed model of a difference between two methods: pairs, prompts and image seeds as random samples of what there is.

It says where a difference scatters, and so whether more pairs, more prompts or more seeds would show it.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magictailor.common.errors import InputError
from magictailor.evaluate.scores import Scores, Values, common

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MixedEffect:
    """``estimate`` with a 95 % interval and p, by t with pairs - 1 degrees of freedom. ``variance``: of the difference, by
    source: pair, prompt, pair x prompt, image (its seed; without repetitions part of pair x prompt). ``rows``: images."""

    estimate: float
    low: float
    high: float
    p: float
    variance: dict[str, float]
    pairs: int
    rows: int


def library() -> Any:
    """statsmodels.regression.mixed_linear_model.MixedLM. Raises InputError if it is missing."""
    try:
        from statsmodels.regression.mixed_linear_model import MixedLM
    except ImportError as error:
        raise InputError("a mixed model needs statsmodels", "run `pip install 'magictailor[statistics]'`") from error
    return MixedLM


def _indicator(codes: NDArray[np.int64]) -> Floats:
    values, columns = np.unique(codes, return_inverse=True)
    found = np.zeros((len(codes), len(values)))
    found[np.arange(len(codes)), columns] = 1
    return found


def _cells(
    differences: Floats, pair: NDArray[np.int64], prompt: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64], float, float]:
    """The mean of each pair and prompt with their codes; the variance within cells, NaN without repetitions; and the
    (harmonic) mean number of images in a cell."""
    both, cell = np.unique(pair * (prompt.max() + 1) + prompt, return_inverse=True)
    counts = np.bincount(cell)
    means = np.bincount(cell, differences) / counts
    freedom = len(differences) - len(both)
    within = float(np.square(differences - means[cell]).sum() / freedom) if freedom else math.nan
    return means, both // (prompt.max() + 1), both % (prompt.max() + 1), within, float(len(counts) / (1 / counts).sum())


def _start(means: Floats, parts: Mapping[str, NDArray[np.int64]]) -> Floats:
    """Each part's variance over that of what is left, from the means of its groups; never quite 0."""
    between, left = [], means - means.mean()
    for codes in parts.values():
        groups = np.bincount(codes, means) / np.maximum(1, np.bincount(codes))
        left = left - (groups[codes] - means.mean())
        between.append(float(groups[np.unique(codes)].var(ddof=1)))
    rest = float(left.var()) or 1.0
    counts = [len(means) / len(np.unique(codes)) for codes in parts.values()]
    return np.array([max(b - rest / n, 0.01 * rest) / rest for b, n in zip(between, counts, strict=True)])


def fit(differences: Floats, pair: NDArray[np.int64], prompt: NDArray[np.int64]) -> MixedEffect:
    """The mean difference, with random effects of pair and prompt on the means of each pair and prompt.

    The images of a cell repeat it, so their variance within cells is what a seed adds; what is left between cells is the
    effect of a prompt on a pair.

    Args:
        differences: of images, [N]. pair, prompt: a code of each.

    Raises:
        InputError: statsmodels is missing, or there are fewer than three pairs.
    """
    model_class = library()
    from scipy.stats import t as student
    from statsmodels.regression.mixed_linear_model import MixedLMParams, VCSpec

    pairs = len(np.unique(pair))
    if pairs < 3:
        raise InputError(f"{pairs} pairs: a mixed model needs three", "run the bench on more pairs")
    means, cell_pair, cell_prompt, image, images = _cells(differences, pair, prompt)
    parts = {"pair": cell_pair, "prompt": cell_prompt}
    parts = {name: codes for name, codes in parts.items() if 1 < len(np.unique(codes)) < len(codes)}
    scale = float(means.std()) or 1.0
    matrices = [_indicator(codes) for codes in parts.values()]
    columns = [[[str(i) for i in range(matrix.shape[1])]] for matrix in matrices]
    ones = np.ones((len(means), 1))
    if parts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a variance of 0 is at the edge of its range
            spec = VCSpec(list(parts), columns, [[matrix] for matrix in matrices])
            model = model_class(means / scale, ones, np.zeros(len(means)), exog_vc=spec)
            starts = [
                None,
                MixedLMParams.from_components(
                    means.mean(keepdims=True) / scale, np.zeros((0, 0)), vcomp=_start(means, parts)
                ),
            ]
            fits = [model.fit(start_params=start, reml=True, method=["lbfgs", "powell"]) for start in starts]
        found = max(fits, key=lambda fit: float(fit.llf))  # a single start misses the best values in one of 40
        mean, error, rest = float(found.fe_params[0]), float(found.bse_fe[0]), float(found.scale)
        variance = {name: float(value) * scale**2 for name, value in zip(parts, found.vcomp, strict=True)}
    else:  # one prompt: nothing but the pairs' means
        mean, rest = float(means.mean()) / scale, float(means.var(ddof=1)) / scale**2
        error, variance = math.sqrt(rest / len(means)), {}
    left = rest * scale**2
    variance["pair x prompt" if parts else "pair"] = left if math.isnan(image) else max(0.0, left - image / images)
    if not math.isnan(image):
        variance["image"] = image
    estimate, error = mean * scale, error * scale
    half = float(student.ppf(0.975, pairs - 1)) * error
    p = float(2 * student.sf(abs(estimate / error), pairs - 1)) if error > 0 else math.nan
    return MixedEffect(estimate, estimate - half, estimate + half, p, variance, pairs, len(differences))


def mixed_effect(scores: Scores, method: str, against: str, metric: str) -> MixedEffect:
    """Of a method minus another, over the images that have a value of the metric from both.

    Raises:
        InputError: as `fit`.
    """
    first, second = (_sorted(scores.values(name, metric)) for name in (method, against))
    among = common([first.image, second.image])
    one, other = (values.value[np.searchsorted(values.image, among)] for values in (first, second))
    keys = scores.keys(among)
    clauses = {key[1]: key[1].partition(", ")[2] or key[1] for key in keys}  # pairs have words of their own
    names = sorted(set(clauses.values()))
    pair = np.array([scores.pairs.index(key[0]) for key in keys], np.int64)
    prompt = np.array([names.index(clauses[key[1]]) for key in keys], np.int64)
    return fit(one - other, pair, prompt)


def _sorted(values: Values) -> Values:
    order = np.argsort(values.image)
    return Values(values.image[order], values.pair[order], values.value[order])
