"""Intervals and tests, against values by hand and simulations with known answers."""

import math

import numpy as np
import pytest

from magictailor.evaluate.reporting.statistics import bootstrap, detectable_effect, sign_flip_interval, sign_flip_test


def test_a_bootstrap_interval_has_its_nominal_coverage() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        found = bootstrap(rng.normal(0.3, 1, 40).tolist())
        covered += found.low <= 0.3 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_interval_of_one_pair_is_nan() -> None:
    one = bootstrap([0.5])
    assert one.mean == 0.5
    assert math.isnan(one.low)
    assert math.isnan(bootstrap([]).mean)
    same = bootstrap([0.25, 0.25, 0.25])
    assert (same.low, same.mean, same.high) == (0.25, 0.25, 0.25)
    assert bootstrap([0.1, 0.9]) == bootstrap([0.1, 0.9])


def test_the_sign_flip_test_by_hand() -> None:
    """Two of eight sign flips are as extreme as (1, 2, 3). (1, 2, -3) sums to 0, so all are."""
    assert sign_flip_test([1, 2, 3]) == 2 / 8
    assert sign_flip_test([1, 2, -3]) == 1
    assert sign_flip_test([1, 1, 1, 1]) == 2 / 16
    assert sign_flip_test([0.1, 0.2, -0.3, 0.1, 0.2, -0.3]) == 1  # their sum is 0 but for rounding
    many = sign_flip_test([1.0] * 20)
    assert many < 0.001


def test_the_interval_of_the_sign_flip_test_by_hand() -> None:
    """The interval of six pairs ends at the smallest and the largest difference: beyond, p is 2 / 64."""
    found = sign_flip_interval([1, 2, 3, 4, 5, 9])
    assert (found.low, found.mean, found.high) == (1, 4, 9)
    assert math.isnan(sign_flip_interval([1, 2, 3, 4, 5]).low)


@pytest.mark.parametrize("count", [6, 8, 11, 17])
def test_the_interval_ends_where_the_test_rejects(count: int) -> None:
    for seed in range(5):
        data = np.random.default_rng(seed).normal(0.2, 1, count)
        found = sign_flip_interval(data.tolist())
        for end, outwards in ((found.low, -1e-6), (found.high, 1e-6)):
            assert sign_flip_test((data - end - outwards).tolist()) < 0.05
            assert sign_flip_test((data - end + outwards).tolist()) >= 0.05


def test_the_sign_flip_interval_of_eight_pairs_has_its_nominal_coverage() -> None:
    rng = np.random.default_rng(3)
    draws = rng.normal(0.3, 1, (400, 8)).tolist()
    held = [[f.low <= 0.3 <= f.high for f in (sign_flip_interval(data), bootstrap(data))] for data in draws]
    by_signs, by_bootstrap = np.mean(held, 0)
    assert 0.92 <= by_signs <= 0.98
    assert by_bootstrap < by_signs


def test_p_does_not_depend_on_units() -> None:
    differences = [0.012, 0.003, -0.004, 0.02, 0.009, 0.001]
    assert sign_flip_test([d * 1e-12 for d in differences]) == sign_flip_test(differences)


def test_a_detectable_effect_is_detected_four_times_of_five() -> None:
    rng = np.random.default_rng(2)
    count, spread = 30, 0.2
    effect = detectable_effect(rng.normal(0, spread, 4000).tolist()) * math.sqrt(4000 / count)
    found = [sign_flip_test(rng.normal(effect, spread, count).tolist()) < 0.05 for _ in range(40)]
    assert 0.6 <= sum(found) / len(found) <= 0.97
