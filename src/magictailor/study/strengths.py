"""Bradley-Terry strengths: how strongly methods are preferred, from whatever pictures were next to each other."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from magictailor.common.errors import InputError
from magictailor.evaluate.reporting.statistics import CONFIDENCE, Interval
from magictailor.study.intervals import Crossed, standard_error
from magictailor.study.results import Choices

Floats = NDArray[np.float64]
REGULARISATION = 0.01  # a hundredth of a win of each over each, so that a method without any has a strength


@dataclass(frozen=True)
class Strength:
    """The logarithm of a method's strength, 0 on average: a difference of 0.7 is chosen twice as often."""

    method: str
    interval: Interval


def wins(choices: Choices) -> Floats:
    """[N, M, M]: how often the row's method was chosen over the column's in each answer.

    The chosen one of several is chosen over each other one. By Luce's axiom, the best of N and pairs of two have the same
    strengths.
    """
    others = choices.shown[:, None, :] & ~np.eye(len(choices.methods), dtype=bool)
    return choices.credit[:, :, None] * others


def strengths(choices: Choices) -> list[Strength]:
    """Strengths by maximum likelihood, with 95 % intervals that know that answers of one rater, and on one group, are alike.

    The interval is linear: each answer's influence on the strengths is a value in the table of raters x groups.

    Raises:
        InputError: choix is missing.
    """
    try:
        import choix
    except ImportError as error:
        raise InputError("strengths need choix", "run `pip install 'magictailor[study]'`") from error
    count = len(choices.methods)
    by_answer = wins(choices)
    total = by_answer.sum(0)
    fitted = np.asarray(choix.ilsr_pairwise_dense(total, alpha=REGULARISATION, max_iter=1000), np.float64)
    fitted -= fitted.mean()
    expected = 1 / (1 + np.exp(fitted[None, :] - fitted[:, None]))  # that the row's is chosen over the column's
    games = by_answer + by_answer.transpose(0, 2, 1)
    scores = (by_answer - games * expected).sum(2)  # [N, M]
    weights = games.sum(0) * expected * (1 - expected)
    information = np.diag(weights.sum(1)) - weights
    influence = scores @ np.linalg.pinv(information) * len(choices)
    return (
        [
            Strength(method, _interval(float(fitted[i]), influence[:, i], choices))
            for i, method in enumerate(choices.methods)
        ]
        if count
        else []
    )


def _interval(strength: float, influence: Floats, choices: Choices) -> Interval:
    error, freedom = standard_error(Crossed.of(influence, choices.raters, choices.groups))
    half = error * float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) if error > 0 else math.nan
    return Interval(strength, strength - half, strength + half)
