"""Answers as choices of methods, by the raters who are not excluded."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np
from numpy.typing import NDArray

from magictailor.study.arrangement import shown_pictures
from magictailor.study.design import CANNOT_SAY, TIE, Group, Study
from magictailor.study.store import Answer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RaterRecord:
    """What a rater did. ``excluded``: the part of the TOML's rule that leaves the rater out, or an empty text."""

    rater: str
    answered: float  # share of the questions that count
    failed_checks: int
    seconds: float  # median of an answer
    excluded: str


@dataclass(frozen=True)
class Choices:
    """The answers to one question that name pictures: N of them, with M methods.

    raters, groups: [N], numbers of the rater and of the group.
    credit: [N, M], 1 for the chosen method; a tie gives each shown one an equal share.
    shown: [N, M], whether the rater could choose the method.
    positions: [N], where the chosen picture stood, from 0; -1 for a tie.
    cannot_say: number of answers that named none, which are left out.
    """

    methods: tuple[str, ...]
    raters: Ints
    groups: Ints
    credit: Floats
    shown: NDArray[np.bool_]
    positions: Ints
    cannot_say: int

    def __len__(self) -> int:
        return len(self.raters)

    @property
    def ties(self) -> int:
        return int((self.positions < 0).sum())


class Results:
    """All answers of a study."""

    def __init__(self, study: Study, answers: Sequence[Answer]) -> None:
        self.study = study
        self.known = [answer for answer in answers if _fits(study, answer)]
        self.ignored = len(answers) - len(self.known)  # to groups or pictures that the TOML no longer has

    @cached_property
    def records(self) -> list[RaterRecord]:
        """Every rater with an answer, by name."""
        by_rater: dict[str, list[Answer]] = defaultdict(list)
        for answer in self.known:
            by_rater[answer.rater].append(answer)
        return [self._record(rater, answers) for rater, answers in sorted(by_rater.items())]

    def _record(self, rater: str, answers: Sequence[Answer]) -> RaterRecord:
        study, rule = self.study, self.study.exclusion
        counted = [a for a in answers if study.by_name[a.group].kind == "study"]
        share = len(counted) / (len(study.counted) * len(study.questions))
        failed = len({a.group for a in answers if _is_wrong(study.by_name[a.group], a)})
        seconds = median(a.seconds for a in counted) if counted else 0.0
        reasons = {
            f"failed {failed} checks" if failed != 1 else "failed 1 check": failed > rule.max_failed_checks,
            f"answered {share:.0%}": share < rule.min_answered,
            f"median time {seconds:.1f} s": seconds < rule.min_seconds,
        }
        return RaterRecord(rater, share, failed, seconds, "; ".join(r for r, applies in reasons.items() if applies))

    @cached_property
    def included(self) -> tuple[str, ...]:
        """The raters whose answers count."""
        return tuple(record.rater for record in self.records if not record.excluded)

    def choices(self, question: str) -> Choices:
        """The counted answers of the included raters to one question."""
        study = self.study
        rater_number = {rater: i for i, rater in enumerate(self.included)}
        group_number = {group.name: i for i, group in enumerate(study.counted)}
        mine = [a for a in self.known if a.question == question and a.rater in rater_number and a.group in group_number]
        named = [a for a in mine if a.choice != CANNOT_SAY]
        method = {p.file: m for g in study.counted for p in g.pictures for m in [study.methods.index(p.method)]}
        shown = np.zeros((len(named), len(study.methods)), np.bool_)
        credit = np.zeros(shown.shape)
        positions = np.full(len(named), -1)
        for row, answer in enumerate(named):
            files = shown_pictures(study, answer.rater, study.by_name[answer.group])
            shown[row, [method[file] for file in files]] = True
            if answer.choice == TIE:
                credit[row] = shown[row] / len(files)
            else:
                credit[row, method[answer.choice]] = 1
                positions[row] = files.index(answer.choice)
        raters = np.array([rater_number[a.rater] for a in named], np.int64)
        groups = np.array([group_number[a.group] for a in named], np.int64)
        return Choices(study.methods, raters, groups, credit, shown, positions, len(mine) - len(named))

    def reliability(self, question: str) -> list[list[float]]:
        """Raters x units, the number of the chosen method or NaN, for Krippendorff's alpha.

        A unit is a group; where pairs are drawn, a group and a pair, since raters agree about the same pictures only.
        """
        study, included = self.study, set(self.included)
        codes = {name: number for number, name in enumerate((*study.methods, *study.special))}
        cells: dict[tuple[str, tuple[str, ...]], dict[str, int]] = defaultdict(dict)
        for answer in self.known:
            group = study.by_name[answer.group]
            if answer.question == question and group.kind == "study" and answer.rater in included:
                unit = (group.name, tuple(sorted(shown_pictures(study, answer.rater, group))))
                methods = {picture.file: picture.method for picture in group.pictures}
                cells[unit][answer.rater] = codes[methods.get(answer.choice, answer.choice)]
        return [[unit.get(rater, math.nan) for unit in cells.values()] for rater in self.included]


def _fits(study: Study, answer: Answer) -> bool:
    """Whether the study, as it is now, has this answer."""
    group = study.by_name.get(answer.group)
    if group is None or answer.question not in {q.name for q in study.questions}:
        return False
    return answer.choice in (*shown_pictures(study, answer.rater, group), *study.special)


def _is_wrong(group: Group, answer: Answer) -> bool:
    return group.kind == "check" and answer.choice != group.answer
