"""The scheduler alone, with workers that fail, die and lack things, in simulated time."""

import heapq
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from magictailor.evaluate import journal
from magictailor.evaluate.journal import DriverState, Journal, read_progress
from magictailor.evaluate.scheduling import MAX_LOSSES, Outcome, Schedule, run_schedule
from magictailor.evaluate.sources import Source
from magictailor.evaluate.stores import open_store
from magictailor.evaluate.trials import KINDS, Trial, Unit, make_units


class Simulated:
    """Workers in simulated time; ``decide`` says what becomes of a unit at its n-th try."""

    def __init__(self, capacity: int, decide: Callable[[Unit, int], Outcome]) -> None:
        self.capacity, self.decide = capacity, decide
        self.now, self.tries, self.order = 0.0, dict[str, int](), list[str]()
        self.queue: list[tuple[float, int, Outcome]] = []

    def submit(self, unit: Unit) -> None:
        assert len(self.queue) < self.capacity
        self.order.append(unit.key)
        self.tries[unit.key] = self.tries.get(unit.key, 0) + 1
        outcome = self.decide(unit, self.tries[unit.key])
        heapq.heappush(self.queue, (self.now + outcome.seconds, len(self.order), outcome))

    def wait(self) -> Sequence[Outcome]:
        self.now, _, outcome = heapq.heappop(self.queue)
        return [outcome]

    def close(self) -> None: ...


def units(pairs: int, methods: Sequence[str] = ("a", "b")) -> list[Unit]:
    return make_units([Trial(Source(f"pair-{n}"), method) for n in range(pairs) for method in methods])


def done(unit: Unit, _: int = 1) -> Outcome:
    return Outcome(unit, 1.0)


def test_each_unit_runs_once_and_after_what_it_needs() -> None:
    executor = Simulated(3, done)
    state = run_schedule(units(4), executor)
    assert (state.done, state.finished, state.total) == (24, 24, 24)
    assert len(executor.order) == len(set(executor.order)) == 24
    for unit in units(4):
        if unit.needs:
            assert executor.order.index(unit.needs) < executor.order.index(unit.key)
    assert executor.now <= 24 / 3 + 1  # all workers were busy but at the end, when each trial is a chain


def test_one_worker_finishes_a_trial_before_it_begins_the_next() -> None:
    executor = Simulated(1, done)
    run_schedule(units(2), executor)
    assert executor.order == [unit.key for unit in units(2)]


def test_a_unit_that_fails_keeps_only_those_that_need_it_from_running() -> None:
    def decide(unit: Unit, number: int) -> Outcome:
        return Outcome(unit, 1.0, error="broken") if unit.key == "generate pair-1/a" else done(unit)

    state = run_schedule(units(3), Simulated(2, decide))
    assert state.failed == {"generate pair-1/a": "broken"}
    assert state.skipped == {"score pair-1/a"}
    assert state.done == 3 * 2 * 3 - 2


def test_a_lost_unit_is_handed_out_again_and_given_up_after_some_losses() -> None:
    def decide(unit: Unit, number: int) -> Outcome:
        killer = unit.key == "train pair-0/b"
        return Outcome(unit, 1.0, lost=killer or (unit.key == "train pair-0/a" and number < MAX_LOSSES))

    executor = Simulated(2, decide)
    state = run_schedule(units(2), executor)
    assert executor.tries["train pair-0/a"] == executor.tries["train pair-0/b"] == MAX_LOSSES
    assert state.failed == {"train pair-0/b": f"its worker died {MAX_LOSSES} times"}
    assert state.done == 4 * 3 - 3


def test_time_left_is_what_the_units_take() -> None:
    lengths = dict(zip(KINDS, (100.0, 10.0, 1.0), strict=True))
    executor = Simulated(2, lambda unit, _: Outcome(unit, lengths[unit.kind]))
    errors: list[float] = []

    def report(state: Schedule) -> None:
        if state.done == 30 and (left := state.seconds_left(2)) is not None:
            errors.append(left + executor.now)

    state = run_schedule(units(40), executor, report)
    assert state.seconds_left(2) == 0
    assert errors[0] == pytest.approx(executor.now, rel=0.05)


def test_thousands_of_units_with_failures() -> None:
    draw = random.Random(0)

    def decide(unit: Unit, number: int) -> Outcome:
        kind = draw.random()
        return Outcome(unit, draw.expovariate(1), error="x" if kind < 0.01 else None, lost=0.01 <= kind < 0.05)

    state = run_schedule(units(500), Simulated(64, decide))
    assert state.finished == state.total == 3000
    assert state.done + len(state.failed) + len(state.skipped) == 3000
    assert len(state.failed) > 10
    assert not state.running


class Slow(Simulated):
    """In this process, so that nobody writes while it works: for as long as it takes to be seen twice."""

    def __init__(self, home: Path) -> None:
        super().__init__(1, done)
        self.home, self.seen = home, list[DriverState]()

    def wait(self) -> Sequence[Outcome]:
        times = set[float]()
        while len(times) < 2:
            found = read_progress(self.home)
            if found is not None and list(found.running) == self.order[-1:]:
                times.add(found.updated)
                self.seen.append(found)
            time.sleep(0.005)
        return super().wait()


def test_a_driver_in_the_middle_of_a_long_unit_is_seen_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PAUSE", 0.02)
    executor = Slow(tmp_path)
    with Journal(open_store(tmp_path), lambda: 1) as kept:
        run_schedule(units(1), executor, kept.note)
    assert all(progress.at_work for progress in executor.seen)
    kept.end()
    last = read_progress(tmp_path)
    assert last is not None
    assert (last.ended, last.done, last.running) == (True, 6, {})
