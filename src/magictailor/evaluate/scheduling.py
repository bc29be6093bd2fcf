"""One scheduler for all executors: units go out when what they need is done, and come back done, failed or lost."""

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from magictailor.evaluate.trials import KINDS, Kind, Unit

MAX_LOSSES = 3  # workers that may die with one unit in hand


@dataclass(frozen=True)
class Outcome:
    """What became of a unit on a worker.

    seconds: of the worker. error: why it failed, in one line; None: it is done. lost: its worker died, which says nothing
    about the unit.
    """

    unit: Unit
    seconds: float = 0.0
    error: str | None = None
    lost: bool = False


class Executor(Protocol):
    """``capacity``: the number of units that may be with it at once; it may change."""

    @property
    def capacity(self) -> int: ...

    def submit(self, unit: Unit) -> None: ...

    def wait(self) -> Sequence[Outcome]:
        """The outcomes of finished units; waits for one, but not for long."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


@dataclass
class Schedule:
    """The state of a bench's units. ``total`` counts all; ``failed`` has the reasons; ``skipped`` needed a failed one."""

    total: int
    done: int = 0
    running: dict[str, float] = field(default_factory=dict)  # by key: when it was handed out, seconds since 1970
    failed: dict[str, str] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    losses: dict[str, int] = field(default_factory=dict)
    times: dict[Kind, deque[float]] = field(default_factory=lambda: {kind: deque(maxlen=200) for kind in KINDS})
    left: dict[Kind, int] = field(default_factory=dict)

    @property
    def finished(self) -> int:
        """Units that will not run any more."""
        return self.done + len(self.failed) + len(self.skipped)

    def seconds_left(self, capacity: int) -> float | None:
        """From the mean of each kind's last units; None while a kind has none."""
        if any(count and not self.times[kind] for kind, count in self.left.items()):
            return None
        work = sum(count * sum(self.times[kind]) / len(self.times[kind]) for kind, count in self.left.items() if count)
        return work / max(1, capacity)


def run_schedule(
    units: Iterable[Unit], executor: Executor, report: Callable[[Schedule], None] = lambda _: None
) -> Schedule:
    """Run all units; a unit that fails keeps those that need it from running, and no other.

    A unit whose worker was lost is handed out again, up to `MAX_LOSSES` times. ``report`` is called after every change.
    """
    every = {unit.key: unit for unit in units}
    followers: dict[str, list[str]] = {}
    ready: list[tuple[int, int, str]] = []

    def make_ready(unit: Unit) -> None:
        heapq.heappush(ready, (unit.number, KINDS.index(unit.kind), unit.key))

    for unit in every.values():
        if unit.needs in every:
            followers.setdefault(unit.needs or "", []).append(unit.key)
        else:
            make_ready(unit)
    state = Schedule(len(every), left={kind: sum(u.kind == kind for u in every.values()) for kind in KINDS})

    def skip_followers(key: str) -> None:
        for follower in followers.get(key, ()):
            state.skipped.add(follower)
            state.left[every[follower].kind] -= 1
            skip_followers(follower)

    def take(outcome: Outcome) -> None:
        key, unit = outcome.unit.key, outcome.unit
        state.running.pop(key, None)
        if outcome.lost:
            state.losses[key] = state.losses.get(key, 0) + 1
            if state.losses[key] < MAX_LOSSES:
                make_ready(unit)
                return
        state.left[unit.kind] -= 1
        if outcome.error is None and not outcome.lost:
            state.done += 1
            state.times[unit.kind].append(outcome.seconds)
            for follower in followers.get(key, ()):
                make_ready(every[follower])
        else:
            state.failed[key] = outcome.error or f"its worker died {MAX_LOSSES} times"
            skip_followers(key)

    while ready or state.running:
        while ready and len(state.running) < executor.capacity:
            key = heapq.heappop(ready)[2]
            state.running[key] = time.time()
            executor.submit(every[key])
        report(state)
        for outcome in executor.wait():
            take(outcome)
    report(state)
    return state
