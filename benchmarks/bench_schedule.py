"""The driver alone under 10,000 units with failures: how many seconds and how much memory it takes, in simulated time.

    python benchmarks/bench_schedule.py --pairs 1000 --workers 64

Units take random times; 1 % fail for good, 5 % lose their worker, and 20 workers are lost at once every simulated hour.
Then results of 1,000 pairs are written, and the state of the bench and all its scores are read. Prints what each took.
"""

import argparse
import heapq
import random
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from magictailor.evaluate.journal import Journal
from magictailor.evaluate.records import Row, first_seed, write_rows
from magictailor.evaluate.scheduling import Outcome, run_schedule
from magictailor.evaluate.scores import read_scores
from magictailor.evaluate.sources import Source
from magictailor.evaluate.spec import Spec
from magictailor.evaluate.status import bench_status, status_lines
from magictailor.evaluate.stores import FolderStore
from magictailor.evaluate.trials import Trial, Unit, make_units

METHODS = ("magictailor", "clic", "dreambooth", "textual-inversion")
SECONDS = {"train": 130.0, "generate": 40.0, "score": 8.0}


class Simulated:
    """Workers in simulated time."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.now, self.tries = capacity, 0.0, 0
        self.draw, self.queue = random.Random(0), list[tuple[float, int, Outcome]]()
        self.lost_at = 3600.0

    def submit(self, unit: Unit) -> None:
        self.tries += 1
        kind, seconds = self.draw.random(), SECONDS[unit.kind] * self.draw.lognormvariate(0, 0.4)
        outcome = Outcome(unit, seconds, error="it cannot be done" if kind < 0.01 else None, lost=0.01 <= kind < 0.06)
        heapq.heappush(self.queue, (self.now + seconds, self.tries, outcome))

    def wait(self) -> Sequence[Outcome]:
        if self.now > self.lost_at:  # a machine goes, with 20 units in hand
            self.lost_at += 3600
            lost, self.queue = self.queue[:20], self.queue[20:]
            heapq.heapify(self.queue)
            return [Outcome(outcome.unit, lost=True) for _, _, outcome in lost]
        self.now, _, outcome = heapq.heappop(self.queue)
        return [outcome]

    def close(self) -> None: ...


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_results(home: Path, trials: Sequence[Trial], prompts: int, seeds: int) -> None:
    draw = random.Random(1)
    for trial in trials:
        first = first_seed(trial.source.name)
        rows = [
            Row(trial.source.name, trial.method, f"<cat> with <hat>, {p}", first + s, "judge", metric, draw.random())
            for p in range(prompts)
            for s in range(seeds)
            for metric in ("identity", "text", "pollution")
        ]
        write_rows(home / trial.results, rows, {"judge": "a judge"}, ("<cat>", "<hat>"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=64)
    options = parser.parse_args()
    pairs = [Source(f"world-{1_000_000_000 + n}", seed=1_000_000_000 + n) for n in range(options.pairs)]
    trials = [Trial(pair, method) for pair in pairs for method in METHODS]
    before = megabytes()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        units, executor = make_units(trials), Simulated(options.workers)
        journal = Journal(FolderStore(home), lambda: executor.capacity)
        began = time.process_time()
        state = run_schedule(units, executor, journal.note)
        seconds = time.process_time() - began
        print(
            f"{len(units)} units, {executor.tries} tries, {state.done} done, {len(state.failed)} failed, {len(state.skipped)} left out"
        )
        print(
            f"driver: {seconds:.2f} s of a core, {megabytes() - before:.0f} MB more; simulated {executor.now / 3600:.1f} h"
        )
        assert state.finished == len(units)
        assert not state.running
        write_results(home, trials[: 4 * options.pairs], 10, 1)
        spec = Spec(pairs=(f"world:1000000000+{options.pairs}",), methods=METHODS, anchors=False, metrics=("judge",))
        began = time.process_time()
        status = bench_status(spec, pairs, home)
        print("\n".join(list(status_lines(status))[:1]))
        print(f"status: {time.process_time() - began:.2f} s of a core")
        began = time.process_time()
        scores = read_scores(home)
        means = scores.pair_means("clic", "identity")
        print(f"{len(scores)} scores read in {time.process_time() - began:.2f} s of a core; {len(means)} pairs")


if __name__ == "__main__":
    main()
