"""`study plan`: how many raters and groups show a difference between two methods."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from magictailor.common.errors import InputError
from magictailor.evaluate.reporting.formats import aligned
from magictailor.evaluate.reporting.statistics import ALPHA
from magictailor.study.intervals import Crossed, components
from magictailor.study.preferences import Preferences
from magictailor.study.results import Results

RATERS = (5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300)
GROUPS = (10, 20, 30, 40, 60)
POPULATION = 400  # raters and groups that the components are read from
LEAST = 0.02  # the smallest share that the worse method may have


@dataclass(frozen=True)
class Spread:
    """Variance components of one answer's difference: 1 for the better method, -1 for the worse, 0 for another."""

    rater: float
    group: float
    rest: float


@dataclass(frozen=True)
class Plan:
    """``power``: by (raters, groups), the chance that the difference is shown at p < 0.05."""

    difference: float
    power: dict[tuple[int, int], float]
    note: str

    def needed(self, groups: int, wanted: float) -> int | None:
        """The smallest number of raters with this power; None if no listed number has it."""
        return next((r for r in RATERS if self.power.get((r, groups), 0) >= wanted), None)


def power(difference: float, spread: Spread, raters: int, groups: int) -> float:
    """Of the two-sided t test of a mean difference over crossed raters and groups, with Satterthwaite's degrees of freedom."""
    rest = spread.rest / (raters * groups)
    by_rater, by_group = spread.rater / raters + rest, spread.group / groups + rest
    variance = by_rater + by_group - rest
    freedom = variance**2 / (
        by_rater**2 / (raters - 1) + by_group**2 / (groups - 1) + rest**2 / ((raters - 1) * (groups - 1))
    )
    critical, shift = stats.t.ppf(1 - ALPHA / 2, freedom), difference / math.sqrt(variance)
    return float(stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift))


def assumed_spread(difference: float, methods: int, rater_spread: float, group_spread: float) -> Spread:
    """Of the model in `preferences`, with the two methods around their share by chance."""
    worse = max(LEAST, 1 / methods - difference / 2)
    others = (1 - 2 * worse - difference) / (methods - 2) if methods > 2 else 0.0
    shares = (worse + difference, worse, *(others for _ in range(methods - 2)))
    if min(shares) <= 0:
        raise InputError(
            f"{100 * difference:g}: too many points for {methods} methods", "choose fewer", field="difference"
        )
    chosen = Preferences(shares, rater_spread, group_spread).choose(POPULATION, POPULATION, np.random.default_rng(0))
    return _components(Crossed((chosen == 0).astype(float) - (chosen == 1), np.ones(chosen.shape)))


def observed_spread(results: Results) -> Spread:
    """Of the two methods chosen most often, in the question where they differ most between raters and groups.

    Raises:
        InputError: fewer than three raters are counted.
    """
    if len(results.included) < 3:
        raise InputError(
            f"{len(results.included)} raters", "collect three or more first, or leave out the study", field="study"
        )
    found = []
    for question in results.study.questions:
        choices = results.choices(question.name)
        first, second = np.argsort(-choices.credit.mean(0))[:2]
        both = choices.shown[:, first] & choices.shown[:, second]
        values = (choices.credit[:, first] - choices.credit[:, second])[both]
        found.append(_components(Crossed.of(values, choices.raters[both], choices.groups[both])))
    return max(found, key=lambda spread: spread.rater + spread.group)


def _components(data: Crossed) -> Spread:
    raters, groups = data.values.shape
    found = components(data, np.ones((1, raters)), np.ones((1, groups)))
    return Spread(*(max(0.0, float(part[0])) for part in (found.rater, found.group, found.rest)))


def make_plan(difference: float, spread: Spread, note: str) -> Plan:
    return Plan(difference, {(r, g): power(difference, spread, r, g) for r in RATERS for g in GROUPS}, note)


def plan_text(plan: Plan, groups: int, wanted: float) -> str:
    """A table of powers, and the answer for one number of groups."""
    lines = [["raters", *(f"{g} groups" for g in GROUPS)]]
    lines += [[str(r), *(f"{plan.power[r, g]:.0%}" for g in GROUPS)] for r in RATERS]
    needed = plan.needed(groups, wanted)
    answer = (
        f"{needed} raters on {groups} groups"
        if needed
        else f"no number of raters up to {RATERS[-1]} on {groups} groups"
    )
    sentence = f"{answer} show{'s' if needed is None else ''} a difference of {plan.difference:.0%} with a power of {wanted:.0%} at p < 0.05."
    return "\n".join(
        [
            f"power to show a difference of {plan.difference:.0%} between two methods' shares",
            *aligned(lines),
            "",
            sentence,
            plan.note,
        ]
    )


def plan_study(
    *,
    difference: float = 10,
    methods: int = 6,
    groups: int = 20,
    wanted: float = 0.8,
    rater_spread: float = 0.5,
    group_spread: float = 0.5,
    pilot: Results | None = None,
) -> str:
    """The text of `magictailor study plan`.

    Args:
        difference: between two methods' shares, in points, 1 .. 90.
        wanted: power.
        pilot: answers that the spread between raters and groups is read from; otherwise it is assumed.

    Raises:
        InputError: a number out of range.
    """
    ranges = {"difference": (difference, 1, 90), "methods": (methods, 2, 24), "power": (wanted, 0.5, 0.99),
              "rater_spread": (rater_spread, 0, 5), "group_spread": (group_spread, 0, 5)}  # fmt: skip
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:
            unit = " points" if name == "difference" else ""
            raise InputError(f"{value:g}: out of range", f"choose {low} .. {high}{unit}", field=name)
    if groups not in GROUPS:
        raise InputError(f"{groups}: not in the table", f"choose one of {', '.join(map(str, GROUPS))}", field="groups")
    share = difference / 100
    if pilot is not None:
        spread, note = observed_spread(pilot), f"The spread is that of {len(pilot.included)} raters so far."
    else:
        spread = assumed_spread(share, methods, rater_spread, group_spread)
        note = (
            f"Assumed: {methods} methods, a spread of utilities of {rater_spread:g} between raters and {group_spread:g} between "
            "groups (pure chance: 1.28). Once a few raters have answered, name the study to use their spread."
        )
    return plan_text(make_plan(share, spread, note), groups, wanted)
