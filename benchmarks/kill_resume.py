"""Kill the default run at random steps, five in each stage, resume it, and compare it byte for byte.

    python benchmarks/kill_resume.py --output DIR

Each part of the run is a process of its own, ended by SIGKILL. Prints the steps, the work that was done twice, and
whether the result, the checkpoint and the metrics equal an uninterrupted run's. Exit code 1 if they do not.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from magictailor.common.tensors import read_metadata, read_tensors
from magictailor.training.run_folder import LORA_FILE, METRICS_FILE, STATE_FILE, WORDS_FILE, environment
from magictailor.world.pairs import world_pair, write_pair

PAIR_SEED, STAGES = 100_000_000, (range(1, 120), range(120, 300))  # the default recipe on the embedded base


def train_until_killed(pair: Path, folder: Path, kill_at: int | None) -> None:
    """Train; kill this process once ``kill_at`` steps are done."""
    from magictailor import personalize
    from magictailor.common.events import Event, Progress

    def kill(event: Event) -> None:
        if isinstance(event, Progress) and event.task == "training" and event.done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    personalize(pair, folder, settings=["sampling.preview_every=0"], listen=kill)


def part(pair: Path, folder: Path, kill_at: int | None = None) -> int:
    """`train_until_killed` in a process of its own; its exit code."""
    command = [sys.executable, __file__, "--pair", str(pair), "--output", str(folder)]
    return subprocess.run(command + (["--kill-at", str(kill_at)] if kill_at else []), check=False).returncode


def compare(output: Path) -> bool:
    pair, whole, killed = output / "pair", output / "whole", output / "killed"
    if not pair.exists():
        write_pair(world_pair(PAIR_SEED), pair)
    assert part(pair, whole) == 0
    draw, lost = random.Random(0), 0
    for kill in sorted(step for stage in STAGES for step in draw.sample(stage, 5)):
        assert part(pair, killed, kill) == -signal.SIGKILL
        kept = int(read_metadata(killed / STATE_FILE)["step"])
        lost += kill - kept
        print(f"killed after step {kill}; the checkpoint holds {kept}", flush=True)
    assert part(pair, killed) == 0
    same = {n: (whole / n).read_bytes() == (killed / n).read_bytes() for n in (LORA_FILE, WORDS_FILE, METRICS_FILE)}
    left, right = read_tensors(whole / STATE_FILE), read_tensors(killed / STATE_FILE)
    same[STATE_FILE] = left.keys() == right.keys() and all((left[k] == right[k]).all() for k in left)
    print(f"steps done twice: {lost}; {environment()}")
    print("\n".join(f"{name}: {'the same' if equal else 'DIFFERENT'}" for name, equal in same.items()))
    return all(same.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pair", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kill-at", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pair:
        train_until_killed(options.pair, options.output, options.kill_at)
    elif not compare(options.output):
        sys.exit(1)


if __name__ == "__main__":
    main()
