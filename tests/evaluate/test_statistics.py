"""Intervals and tests, against values by hand and simulations with known answers."""

import math

import numpy as np
import pytest

from magictailor.evaluate.reporting.statistics import bootstrap, detectable, sign_flip, sign_flip_interval


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


def test_the_sign_flip_test_by_hand() -> None:
    """Of eight signs two give a mean as far from 0 as (1, 2, 3), four as (1, 2, -3): |0| is reached by all."""
    assert sign_flip([1, 2, 3]) == 2 / 8
    assert sign_flip([1, 2, -3]) == 1
    assert sign_flip([1, 1, 1, 1]) == 2 / 16
    assert sign_flip([0.1, 0.2, -0.3, 0.1, 0.2, -0.3]) == 1  # their sum is 0 but for rounding
    many = sign_flip([1.0] * 20)
    assert many < 0.001


def test_the_interval_of_the_sign_flip_test_by_hand() -> None:
    """Of six, the smallest that is not refuted is the smallest difference: below it all but two of 64 signs are nearer to 0."""
    found = sign_flip_interval([1, 2, 3, 4, 5, 9])
    assert (found.low, found.mean, found.high) == (1, 4, 9)
    assert math.isnan(sign_flip_interval([1, 2, 3, 4, 5]).low)


@pytest.mark.parametrize("count", [6, 8, 11, 17])
def test_the_interval_ends_where_the_test_begins_to_refute(count: int) -> None:
    for seed in range(5):
        data = np.random.default_rng(seed).normal(0.2, 1, count)
        found = sign_flip_interval(data.tolist())
        for end, outwards in ((found.low, -1e-6), (found.high, 1e-6)):
            assert sign_flip((data - end - outwards).tolist()) < 0.05
            assert sign_flip((data - end + outwards).tolist()) >= 0.05


def test_the_interval_of_eight_pairs_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    draws = rng.normal(0.3, 1, (400, 8)).tolist()
    held = [[f.low <= 0.3 <= f.high for f in (sign_flip_interval(data), bootstrap(data))] for data in draws]
    by_signs, by_bootstrap = np.mean(held, 0)
    assert 0.92 <= by_signs <= 0.98
    assert by_bootstrap < by_signs


def test_a_test_is_the_same_in_other_units() -> None:
    differences = [0.012, 0.003, -0.004, 0.02, 0.009, 0.001]
    assert sign_flip([d * 1e-12 for d in differences]) == sign_flip(differences)


def test_what_could_be_shown_is_shown_four_times_of_five() -> None:
    rng = np.random.default_rng(2)
    count, spread = 30, 0.2
    effect = detectable(rng.normal(0, spread, 4000).tolist()) * math.sqrt(4000 / count)
    found = [sign_flip(rng.normal(effect, spread, count).tolist()) < 0.05 for _ in range(40)]
    assert 0.6 <= sum(found) / len(found) <= 0.97
