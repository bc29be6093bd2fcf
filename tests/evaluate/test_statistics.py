"""Intervals and tests, against values by hand and simulations with known answers."""

import math

import numpy as np
import pytest

from magictailor.evaluate.reporting.statistics import (
    bootstrap,
    detectable_effect,
    holm,
    no_worse_test,
    pairs_needed,
    sign_flip_interval,
    sign_flip_test,
)


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


def test_no_worse_by_a_margin_by_hand() -> None:
    """With a margin of 2, (-1, 0, 1) are gains of (1, 2, 3): one of eight sign flips is as far up."""
    assert no_worse_test([-1, 0, 1], 2) == 1 / 8
    assert no_worse_test([-3, -2, -1], 2) == 6 / 8  # (-1, 0, 1): two are above 0, four of 0, two below
    assert no_worse_test([-0.1] * 8, 0.1) == 1  # exactly as much worse


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
    known = rng.normal(0, 1, count)
    effect = detectable_effect((known / known.std(ddof=1)).tolist()) * spread
    found = [sign_flip_test(rng.normal(effect, spread, count).tolist()) < 0.05 for _ in range(40)]
    assert 0.6 <= sum(found) / len(found) <= 0.97


def test_holm_by_hand_and_by_statsmodels() -> None:
    """Three of four values: .01 x 3, .02 x 2, and .04, which may not be smaller than the one before; NaN does not count."""
    assert holm([0.04, 0.01, math.nan, 0.02])[:2] == pytest.approx([0.04, 0.03])
    assert holm([0.5, 0.9]) == [1, 1]
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    values = np.random.default_rng(0).uniform(0, 0.2, 12)
    assert holm(values.tolist()) == pytest.approx(multitest.multipletests(values, method="holm")[1].tolist())


def test_the_sign_flip_test_is_scipys_permutation_test() -> None:
    scipy = pytest.importorskip("scipy.stats")
    for count in (6, 9):
        data = np.random.default_rng(count).normal(0.5, 1, count)
        theirs = scipy.permutation_test((data,), np.sum, permutation_type="samples", n_resamples=math.inf).pvalue
        assert sign_flip_test(data.tolist()) == pytest.approx(float(theirs))


def test_pairs_needed_are_about_enough() -> None:
    """An effect of half a standard deviation: 2.8 squared / .25 = 32 pairs, and two more; then it is shown four times of five."""
    rng = np.random.default_rng(4)
    known = rng.normal(0, 1, 5000)
    count = pairs_needed((known / known.std(ddof=1)).tolist(), 0.5)
    assert count == 34
    shown = [sign_flip_test(rng.normal(0.5, 1, count).tolist()) < 0.05 for _ in range(100)]
    assert 0.68 <= np.mean(shown) <= 0.92
    assert pairs_needed([0.1, 0.1, 0.1], 0.5) is None
    assert pairs_needed(known[:6].tolist(), 0.0) is None


def test_the_mixed_model_is_the_analysis_of_variance_on_balanced_data() -> None:
    pytest.importorskip("statsmodels")
    from magictailor.evaluate.reporting.mixed import fit

    rng = np.random.default_rng(1)
    pairs, prompts, seeds = 12, 6, 3
    data = 0.02 + rng.normal(0, 0.03, (pairs, 1, 1)) + rng.normal(0, 0.02, (1, prompts, 1))
    data = data + rng.normal(0, 0.04, (pairs, prompts, 1)) + rng.normal(0, 0.05, (pairs, prompts, seeds))
    pair, prompt, _ = (axis.ravel() for axis in np.meshgrid(*map(np.arange, data.shape), indexing="ij"))
    found, cell = fit(data.ravel(), pair, prompt), data.mean(2)
    left = cell - cell.mean(1, keepdims=True) - cell.mean(0, keepdims=True) + cell.mean()
    rest, image = np.square(left).sum() / (pairs - 1) / (prompts - 1), data.var(2, ddof=1).mean()
    of_pairs, of_prompts = prompts * cell.mean(1).var(ddof=1), pairs * cell.mean(0).var(ddof=1)
    assert found.estimate == pytest.approx(data.mean())
    assert found.variance == pytest.approx(
        {
            "pair": (of_pairs - rest) / prompts,
            "prompt": (of_prompts - rest) / pairs,
            "pair x prompt": rest - image / seeds,
            "image": image,
        },
        rel=1e-2,
    )
    error = math.sqrt((of_pairs + of_prompts - rest) / pairs / prompts)
    assert found.high - found.estimate == pytest.approx(2.2009851601 * error, rel=1e-3)  # t with 11 degrees of freedom
