"""Intervals and tests, against values by hand and simulations with known answers."""

import math

import numpy as np
import pytest

from magictailor.evaluate.reporting.statistics import bootstrap, detectable, paired, sign_flip


def test_a_bootstrap_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        found = bootstrap(rng.normal(0.3, 1, 40).tolist())
        covered += found.low <= 0.3 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_intervals_of_hardly_any_pairs_say_so() -> None:
    one = bootstrap([0.5])
    assert one.mean == 0.5
    assert math.isnan(one.low)
    assert math.isnan(bootstrap([]).mean)
    same = bootstrap([0.25, 0.25, 0.25])
    assert (same.low, same.mean, same.high) == (0.25, 0.25, 0.25)
    assert bootstrap([0.1, 0.9]) == bootstrap([0.1, 0.9])


def test_pairs_are_compared_with_themselves() -> None:
    easy_and_hard = [0.1, 0.5, 0.9]
    better = [v + 0.05 for v in easy_and_hard]
    found = paired(better, easy_and_hard)
    assert (found.low, found.high) == (pytest.approx(0.05), pytest.approx(0.05))


def test_the_sign_flip_test_by_hand() -> None:
    """Of eight signs two give a mean as far from 0 as (1, 2, 3), four as (1, 2, -3): |0| is reached by all."""
    assert sign_flip([1, 2, 3]) == 2 / 8
    assert sign_flip([1, 2, -3]) == 1
    assert sign_flip([1, 1, 1, 1]) == 2 / 16
    many = sign_flip([1.0] * 20)
    assert many < 0.001


def test_what_could_be_shown_is_shown_four_times_of_five() -> None:
    rng = np.random.default_rng(2)
    count, spread = 30, 0.2
    effect = detectable(rng.normal(0, spread, 4000).tolist()) * math.sqrt(4000 / count)
    found = [sign_flip(rng.normal(effect, spread, count).tolist()) < 0.05 for _ in range(40)]
    assert 0.6 <= sum(found) / len(found) <= 0.97
