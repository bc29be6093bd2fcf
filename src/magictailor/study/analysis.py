"""All numbers of a study's table."""

import math
from dataclasses import dataclass
from statistics import median

import numpy as np
from scipy import stats

from magictailor.common.errors import InputError
from magictailor.evaluate.reporting.statistics import Interval
from magictailor.study.design import Question, Study
from magictailor.study.intervals import Floats, chance_test, share_interval, wilson
from magictailor.study.results import Choices, RaterRecord, Results
from magictailor.study.store import Answer
from magictailor.study.strengths import Strength, strengths


@dataclass(frozen=True)
class Share:
    """How often a method was chosen, of the answers that could choose it.

    interval: by the bootstrap over raters and groups. wilson: as if all answers were independent.
    p: of the exact test against chance. chosen, count: answers.
    """

    method: str
    interval: Interval
    wilson: Interval
    p: float
    chosen: float
    count: int


@dataclass(frozen=True)
class QuestionResult:
    """One question's numbers.

    agreement: the share of two raters' answers about the same pictures that are equal.
    alpha: Krippendorff's, of the chosen methods: 1 for full agreement, 0 if raters agree about groups no more than their
        overall preferences make them. NaN if there is nothing to compare, or one method only.
    positions: answers by the place of the chosen picture. order_p: of the chi-squared test that all places are alike.
    """

    question: Question
    shares: tuple[Share, ...]
    strengths: tuple[Strength, ...]
    agreement: float
    alpha: float
    positions: tuple[int, ...]
    order_p: float
    answers: int
    ties: int
    cannot_say: int


@dataclass(frozen=True)
class Analysis:
    """A study's table. ``chance``: the share of a method if everybody guesses."""

    study: Study
    chance: float
    questions: tuple[QuestionResult, ...]
    records: tuple[RaterRecord, ...]
    seconds: float  # median of an answer, by the included raters
    ignored: int

    @property
    def included(self) -> int:
        return sum(not record.excluded for record in self.records)


def analyse(study: Study, answers: list[Answer]) -> Analysis:
    """Raises InputError if no rater's answers count."""
    results = Results(study, answers)
    if not results.included:
        excluded = [f"{record.rater}: {record.excluded}" for record in results.records]
        problem = f"no answers yet (excluded: {'; '.join(excluded[:3])})" if excluded else "no answers yet"
        raise InputError(
            problem,
            "send raters the link of `magictailor study serve`, or take in files with `study add`",
            field="study",
        )
    questions = tuple(_analyse(results, question) for question in study.questions)
    seconds = [record.seconds for record in results.records if not record.excluded]
    return Analysis(study, 1 / study.shown, questions, tuple(results.records), median(seconds), results.ignored)


def _analyse(results: Results, question: Question) -> QuestionResult:
    choices = results.choices(question.name)
    shown = results.study.shown
    chosen = choices.positions[choices.positions >= 0]
    positions = tuple(int((chosen == place).sum()) for place in range(shown))
    order_p = float(stats.chisquare(positions).pvalue) if len(chosen) else math.nan
    table = np.array(results.reliability(question.name), np.float64).reshape(len(results.included), -1)
    shares = tuple(_share(choices, number, 1 / shown) for number in range(len(choices.methods)))
    return QuestionResult(
        question, shares, tuple(strengths(choices)) if len(chosen) else (), _agreement(table), _alpha(table), positions, order_p,
        len(choices) + choices.cannot_say, choices.ties, choices.cannot_say,
    )  # fmt: skip


def _share(choices: Choices, number: int, chance: float) -> Share:
    could = choices.shown[:, number]
    values = choices.credit[could, number]
    method, nan = choices.methods[number], Interval(math.nan, math.nan, math.nan)
    if not len(values):
        return Share(method, nan, nan, math.nan, 0, 0)
    decided = choices.positions[could] >= 0  # a tie chooses nobody
    interval = share_interval(values, choices.raters[could], choices.groups[could])
    p = chance_test(int(values[decided].sum()), int(decided.sum()), chance)
    return Share(method, interval, wilson(float(values.mean()), len(values)), p, float(values.sum()), len(values))


def _agreement(table: Floats) -> float:
    """Of [raters, units] with NaN: the share of equal ones among all two answers to one unit."""
    equal = total = 0.0
    for unit in table.T:
        counts = np.unique(unit[~np.isnan(unit)], return_counts=True)[1]
        equal, total = equal + (counts * (counts - 1)).sum(), total + counts.sum() * (counts.sum() - 1)
    return equal / total if total else math.nan


def _alpha(table: Floats) -> float:
    """Krippendorff's alpha for choices without an order."""
    try:
        import krippendorff
    except ImportError as error:
        raise InputError("agreement needs krippendorff", "run `pip install 'magictailor[study]'`") from error
    filled = ~np.isnan(table)
    if (filled.sum(0) < 2).all() or len(np.unique(table[filled])) < 2:
        return math.nan
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal"))
