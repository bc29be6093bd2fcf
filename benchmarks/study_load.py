"""A study's server under load, killed again and again: answers lost, answers counted twice, and how long an answer takes.

    python benchmarks/study_load.py
    python benchmarks/study_load.py --postgresql

200 simulated raters at once give 40 answers each, press one in ten twice and change one in ten, while the server gets
SIGKILL ten times and is started again. The load and the server share the machine. Needs the repository's tests/.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from studies import made_up_study, postgresql
from study_load import lost_and_double, run_load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--think", type=float, default=2.0, help="mean seconds between two answers of a rater")
    parser.add_argument("--pause", type=float, default=6.0, help="seconds from a start of the server to the next kill")
    parser.add_argument("--postgresql", action="store_true", help="on a PostgreSQL server of its own instead of SQLite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = made_up_study(folder, groups=10, questions="fine")
        if options.postgresql:
            with postgresql(folder / "postgresql") as address:
                measure(study, folder / "study", address, options)
        else:
            measure(study, folder / "study", None, options)


def measure(study, folder, database, options) -> None:
    began = time.monotonic()
    outcome = run_load(
        study,
        folder,
        database,
        raters=options.raters,
        answers=40,
        kills=options.kills,
        think=options.think,
        pause=options.pause,
    )
    lost, double = lost_and_double(study, folder, database, outcome)
    calm, waited = sorted(outcome.calm), sorted(outcome.waited)
    print("PostgreSQL" if database else "SQLite")
    print(
        f"answers {len(outcome.acknowledged)}, requests acknowledged {len(waited)}, in {time.monotonic() - began:.0f} s; kills {outcome.kills}"
    )
    print(f"acknowledged and lost {lost}, counted twice {double}")
    print(
        f"seconds of an answer: median {calm[len(calm) // 2]:.3f}, p95 {outcome.p95(calm):.3f}, largest {calm[-1]:.3f}"
    )
    print(f"with the time that the server was down: p95 {outcome.p95(waited):.3f}, largest {waited[-1]:.3f}")


if __name__ == "__main__":
    main()
