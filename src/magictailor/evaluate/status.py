"""What is done of a bench, what is running and what failed: read only from its files, on any machine."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from magictailor.evaluate.journal import DriverState, read_progress
from magictailor.evaluate.planning import missing_scores
from magictailor.evaluate.records import parquet
from magictailor.evaluate.sources import Source
from magictailor.evaluate.spec import Spec
from magictailor.evaluate.stores import bench_files
from magictailor.evaluate.trials import make_trials
from magictailor.evaluate.work import spec_scorers


@dataclass(frozen=True)
class Status:
    """``states``: of each trial by name: done, running, failed, waiting, or the number of images to score.

    ``progress``: what the driver wrote last; None: none has been started here.
    """

    states: Mapping[str, str]
    progress: DriverState | None

    @property
    def counts(self) -> Mapping[str, int]:
        return Counter("to score" if state.endswith("to score") else state for state in self.states.values())


def bench_status(spec: Spec, sources: Sequence[Source], output: Path | str) -> Status:
    """Read the bench's state; nothing is written, and no pair is drawn.

    Raises:
        InputError: no folder but a file, a damaged file, or pyarrow is missing.
    """
    parquet()
    scorers, states = spec_scorers(spec), {}
    with bench_files(output, "results", "progress.json", field="output") as home:
        progress = read_progress(home)
        running = {key.partition(" ")[2] for key in progress.running} if progress and progress.at_work else set()
        failed = {key.partition(" ")[2] for key in progress.failed} if progress else set()
        for trial in make_trials(spec, sources):
            missing = missing_scores(home, trial, spec, scorers)
            state = "done" if missing == 0 else "waiting" if missing is None else f"{missing} to score"
            if missing != 0:
                state = "running" if trial.name in running else "failed" if trial.name in failed else state
            states[trial.name] = state
    return Status(states, progress)


def duration(seconds: float) -> str:
    """``2 h 05 min``, ``3 min`` or ``40 s``."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 60 else f"{seconds:.0f} s"


def status_lines(status: Status, every: bool = False) -> Iterator[str]:
    """In words: counts, which computer runs it and for how much longer, what failed; ``every``: also each trial's state."""
    total = len(status.states)
    yield f"{total} trials: " + ", ".join(f"{count} {state}" for state, count in sorted(status.counts.items()))
    progress = status.progress
    if progress is not None:
        yield _driver_line(progress)
        yield from (f"failed: {key}: {reason}" for key, reason in progress.failed.items())
    if every:
        yield from (f"{state:<18}{name}" for name, state in status.states.items())


def _driver_line(progress: DriverState) -> str:
    units = f"{progress.done} of {progress.total} units"
    if progress.ended:
        return f"the last run has ended: {units} done, {len(progress.failed)} failed, {progress.skipped} left out"
    if not progress.at_work:
        return f"{progress.driver} last reported {duration(progress.silent)} ago, after {units}; start it again"
    left = "" if progress.seconds_left is None else f", about {duration(progress.seconds_left)} left"
    running = ", ".join(progress.running)
    return f"{progress.driver} is running: {units} done{left}; now: {running}"
