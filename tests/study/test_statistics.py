"""Intervals, strengths and agreement recover what simulated raters prefer. The raters here are simulated, and so are their answers."""

import math
from pathlib import Path

import choix
import numpy as np
import pytest
from scipy import stats

from magictailor.common.errors import InputError
from magictailor.study.analysis import analyse
from magictailor.study.design import Answering, Study
from magictailor.study.intervals import (
    Crossed,
    chance_test,
    components,
    percentile_interval,
    share_interval,
    standard_error,
    wilson,
)
from magictailor.study.plan import Spread, plan_study, power
from magictailor.study.preferences import Preferences
from magictailor.study.results import Choices, Results
from magictailor.study.strengths import strengths, wins
from magictailor.study.table import FORMATS
from studies import made_up_study, simulated_answers

SHARES = (0.5, 0.3, 0.2)


def grid(raters: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.indices((raters, groups))
    return rows.ravel(), columns.ravel()


def test_components_are_without_bias_whatever_is_missing() -> None:
    """The mean over many tables of known components A, B and E, with a third of the answers missing."""
    rng, wanted, found = np.random.default_rng(0), (0.5, 0.2, 1.0), []
    for _ in range(400):
        values = (
            rng.normal(0, wanted[0] ** 0.5, (12, 1))
            + rng.normal(0, wanted[1] ** 0.5, (1, 9))
            + rng.normal(0, 1, (12, 9))
        )
        observed = rng.random((12, 9)) < 0.67
        made = components(Crossed(values * observed, observed.astype(float)), np.ones((1, 12)), np.ones((1, 9)))
        found.append([made.rater[0], made.group[0], made.rest[0]])
    error = np.std(found, axis=0) / 20
    assert (np.abs(np.mean(found, axis=0) - wanted) < 4 * error).all()


def test_the_variance_is_that_of_the_textbook_where_nothing_is_missing() -> None:
    """Of a balanced table: (MS_raters + MS_groups - MS_rest) / (R C)."""
    values = np.random.default_rng(1).normal(0, 1, (7, 5)) + np.arange(7)[:, None] + np.arange(5)[None, :]
    rows, columns, mean = values.mean(1), values.mean(0), values.mean()
    by_rows, by_columns = 5 * ((rows - mean) ** 2).sum() / 6, 7 * ((columns - mean) ** 2).sum() / 4
    rest = ((values - rows[:, None] - columns[None, :] + mean) ** 2).sum() / 24
    error, freedom = standard_error(Crossed(values, np.ones(values.shape)))
    total = by_rows + by_columns - rest
    assert error**2 == pytest.approx(total / 35)
    assert freedom == pytest.approx(total**2 / (by_rows**2 / 6 + by_columns**2 / 4 + rest**2 / 24))


def test_a_rater_drawn_twice_is_two_raters() -> None:
    rng = np.random.default_rng(2)
    table, observed = rng.random((4, 5)), (rng.random((4, 5)) < 0.8).astype(float)
    weighted = components(Crossed(table * observed, observed), np.array([[2.0, 0, 1, 1]]), np.ones((1, 5)))
    again = [0, 0, 2, 3]
    plain = components(Crossed((table * observed)[again], observed[again]), np.ones((1, 4)), np.ones((1, 5)))
    assert weighted.variance[0] == pytest.approx(plain.variance[0])
    assert weighted.mean[0] == pytest.approx(plain.mean[0])


def test_intervals_hold_the_true_share_in_95_of_100_studies() -> None:
    """150 simulated studies; benchmarks/study_coverage.py has 1,000, and more scenarios."""
    preferences, rows_columns = Preferences((0.565, 0.153, 0.108, 0.071, 0.058, 0.045), 0.5, 0.5), grid(40, 20)
    utilities, hits, naive, trials = preferences.utilities(), 0, 0, 0
    for study in range(150):
        chosen = preferences.choose(40, 20, np.random.default_rng(study), utilities).ravel()
        for method in (0, 1, 5):
            values, share = (chosen == method).astype(float), preferences.shares[method]
            found, simple = share_interval(values, *rows_columns, 300), wilson(values.mean(), len(values))
            hits += found.low <= share <= found.high
            naive += simple.low <= share <= simple.high
            trials += 1
    assert 0.92 <= hits / trials <= 0.98
    assert naive / trials < 0.85  # so the clusters do matter


def test_the_plain_bootstrap_is_too_wide_without_clusters() -> None:
    values = (np.random.default_rng(3).random(1000) < 0.4).astype(float)
    plain, found = percentile_interval(values, *grid(50, 20)), share_interval(values, *grid(50, 20))
    simple = wilson(values.mean(), 1000)
    assert (plain.high - plain.low) > 1.5 * (simple.high - simple.low)
    assert (found.high - found.low) < 1.25 * (simple.high - simple.low)


@pytest.mark.parametrize("chosen", [0, 1, 4, 199, 200])
def test_rare_choices_have_an_interval_within_0_and_1(chosen: int) -> None:
    values = np.zeros(200)
    values[:chosen] = 1
    found = share_interval(values, *grid(20, 10))
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert found.high - found.low > 0.005


def test_one_rater_or_one_group_has_no_interval() -> None:
    assert math.isnan(share_interval(np.ones(5), *grid(1, 5)).low)
    assert math.isnan(share_interval(np.ones(5), *grid(5, 1)).low)


def test_wilson_is_scipys() -> None:
    theirs = stats.binomtest(37, 120).proportion_ci(method="wilson")
    assert (wilson(37 / 120, 120).low, wilson(37 / 120, 120).high) == pytest.approx((theirs.low, theirs.high))


def test_the_test_against_chance_is_exact() -> None:
    assert chance_test(10, 10, 0.5) == pytest.approx(2 / 2**10)
    assert chance_test(2, 12, 1 / 6) == pytest.approx(1.0)


def choices_of(preferences: Preferences, raters: int, groups: int, seed: int, shown: int = 3) -> Choices:
    """Of simulated raters, who choose from the first ``shown`` of a random order."""
    rng, count = np.random.default_rng(seed), len(preferences.shares)
    rows, columns = grid(raters, groups)
    utilities = preferences.utilities() + rng.gumbel(size=(len(rows), count))
    utilities += rng.normal(0, preferences.rater_spread, (raters, count))[rows]
    utilities += rng.normal(0, preferences.group_spread, (groups, count))[columns]
    order = rng.permuted(np.tile(np.arange(count), (len(rows), 1)), axis=1)[:, :shown]
    visible = np.zeros(utilities.shape, bool)
    np.put_along_axis(visible, order, True, 1)
    credit = np.zeros(utilities.shape)
    credit[np.arange(len(rows)), np.where(visible, utilities, -np.inf).argmax(1)] = 1
    return Choices(("a", "b", "c"), rows, columns, credit, visible, np.zeros(len(rows), np.int64), 0)


def test_strengths_of_the_best_of_all_are_the_logarithms_of_shares() -> None:
    choices = choices_of(Preferences(SHARES, 0, 0), 40, 10, 0)
    expected = np.log(choices.credit.mean(0))
    assert [s.interval.mean for s in strengths(choices)] == pytest.approx(expected - expected.mean(), abs=0.01)


def test_strengths_agree_with_choix_on_the_single_choices() -> None:
    choices = choices_of(Preferences(SHARES, 0, 0), 30, 10, 1)
    data = [(int(row.argmax()), [i for i in range(3) if i != row.argmax()]) for row in choices.credit]
    theirs = choix.ilsr_top1(3, data)
    assert [s.interval.mean for s in strengths(choices)] == pytest.approx(theirs - theirs.mean(), abs=0.01)
    assert wins(choices).sum() == 2 * len(choices)


@pytest.mark.parametrize("shown", [2, 3])
def test_intervals_of_strengths_hold_the_true_ones(shown: int) -> None:
    """60 simulated studies, best of three and pairs of two, with the same strengths."""
    preferences = Preferences(SHARES, 0, 0)
    truth = np.log(SHARES) - np.log(SHARES).mean()
    hits = []
    for seed in range(60):
        found = strengths(choices_of(preferences, 25, 12, seed, shown))
        hits += [s.interval.low <= t <= s.interval.high for s, t in zip(found, truth, strict=True)]
    assert 0.90 <= np.mean(hits) <= 1.0


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return made_up_study(tmp_path_factory.mktemp("statistics"), groups=8)


def test_the_table_recovers_simulated_preferences(study: Study) -> None:
    analysis = analyse(study, simulated_answers(study, 40, "clic", share=0.7))
    for result in analysis.questions:
        shares = {share.method: share for share in result.shares}
        assert shares["clic"].interval.mean == pytest.approx(0.8, abs=0.1)  # 0.7, and a third of the rest; four errors
        assert shares["clic"].p < 1e-6
        assert shares["dreambooth"].interval.high < 1 / 3
        assert max(result.strengths, key=lambda s: s.interval.mean).method == "clic"
        assert result.order_p > 1e-4
        assert 0.5 < result.agreement < 0.8  # 0.8 of both, and 0.1 of each of the others: 0.66
        assert abs(result.alpha) < 0.05  # no group is different from any other
        assert sum(result.positions) == result.answers == 40 * 8
    assert analysis.included == 40


def test_agreement_is_1_if_all_agree_and_0_by_chance(study: Study) -> None:
    first = {group.name for group in study.counted[:4]}
    answers = [a for a in simulated_answers(study, 10, "clic", share=1) if a.group in first]
    answers += [a for a in simulated_answers(study, 10, "dreambooth", share=1) if a.group not in first]
    agreed = analyse(study, answers).questions[0]
    assert (agreed.agreement, agreed.alpha) == (1, pytest.approx(1))
    guesses = analyse(study, simulated_answers(study, 40, "clic", share=0)).questions[0]
    assert guesses.agreement == pytest.approx(1 / 3, abs=0.03)
    assert abs(guesses.alpha) < 0.05
    assert all(share.interval.mean == pytest.approx(1 / 3, abs=0.11) for share in guesses.shares)  # four errors


def test_raters_are_left_out_by_the_rule_of_the_file(study: Study) -> None:
    answers = simulated_answers(study, 6, "clic")
    first, second, third = sorted({a.rater for a in answers})[:3]
    changed = []
    for answer in answers:
        group = study.by_name[answer.group]
        if answer.rater == first and group.kind == "check" and answer.question == "text":
            wrong = next(file for file in group.files if file != group.answer)
            changed.append(type(answer)(**{**answer.__dict__, "choice": wrong}))
        elif answer.rater == second:
            changed.append(type(answer)(**{**answer.__dict__, "seconds": 0.4}))
        elif answer.rater == third and answer.group not in [g.name for g in study.counted[:3]]:
            continue
        else:
            changed.append(answer)
    records = {r.rater: r.excluded for r in Results(study, changed).records if r.excluded}
    assert records == {first: "failed 2 checks", second: "median time 0.4 s", third: "answered 38%"}
    text = FORMATS["text"](analyse(study, changed))
    assert "3 of 6 raters are left out by the rule fixed beforehand" in text
    lenient = study.model_copy(
        update={
            "exclusion": study.exclusion.model_copy(
                update={"max_failed_checks": 2, "min_seconds": 0.0, "min_answered": 0.0}
            )
        }
    )
    assert len(Results(lenient, changed).included) == 6


def test_an_order_effect_is_seen(study: Study) -> None:
    """Simulated raters who choose the first picture whatever it shows."""
    from magictailor.study.arrangement import shown_pictures

    answers = [
        type(a)(**{**a.__dict__, "choice": shown_pictures(study, a.rater, study.by_name[a.group])[0]})
        if study.by_name[a.group].kind == "study" else a
        for a in simulated_answers(study, 20, "clic")
    ]  # fmt: skip
    result = analyse(study, answers).questions[0]
    assert result.positions == (160, 0, 0)
    assert result.order_p < 1e-6


def test_pairs_ties_and_cannot_say(tmp_path: Path) -> None:
    study = made_up_study(tmp_path, groups=8, answering=Answering(choose="pair", tie=True, cannot_say=True))
    answers = simulated_answers(study, 30, "clic", share=0.9)
    special = iter(["tie", "cannot-say"] * 10)
    changed = [
        type(a)(**{**a.__dict__, "choice": next(special, a.choice)})
        if study.by_name[a.group].kind == "study" and a.question == "text"
        else a
        for a in answers
    ]
    analysis = analyse(study, changed)
    result = analysis.questions[0]
    assert (analysis.chance, result.ties, result.cannot_say) == (0.5, 10, 10)
    shares = {share.method: share for share in result.shares}
    assert shares["clic"].interval.mean > 0.8
    assert sum(share.chosen for share in result.shares) == pytest.approx(30 * 8 - 10)
    assert shares["clic"].count < 30 * 8  # where it was not drawn, it could not be chosen


def test_no_answers_is_an_error_that_says_what_to_do(study: Study) -> None:
    with pytest.raises(InputError, match="no answers yet; send raters the link"):
        analyse(study, [])


def test_the_plans_power_is_that_of_simulated_studies() -> None:
    rng, spread = np.random.default_rng(0), Spread(0.05, 0.03, 0.6)
    shown = 0
    for _ in range(500):
        values = (
            0.12
            + rng.normal(0, 0.05**0.5, (25, 1))
            + rng.normal(0, 0.03**0.5, (1, 12))
            + rng.normal(0, 0.6**0.5, (25, 12))
        )
        error, freedom = standard_error(Crossed(values, np.ones(values.shape)))
        shown += abs(values.mean() / error) > stats.t.ppf(0.975, freedom)
    assert shown / 500 == pytest.approx(power(0.12, spread, 25, 12), abs=0.06)


def test_a_plan_says_how_many_raters(study: Study) -> None:
    assert "raters on 20 groups show a difference of 10%" in plan_study()
    pilot = Results(study, simulated_answers(study, 12, "clic", share=0.3))
    assert "that of 12 raters so far" in plan_study(pilot=pilot)
    with pytest.raises(InputError, match="groups 21: not in the table"):
        plan_study(groups=21)
    for points in (0.5, 95):
        with pytest.raises(InputError, match=f"difference {points}: out of range; choose 1 .. 90 points"):
            plan_study(difference=points)
