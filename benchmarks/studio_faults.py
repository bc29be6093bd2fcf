"""Twenty queued trainings while job, server and both are killed; a disk that is full; a clock that runs backwards.

    python benchmarks/studio_faults.py --output DIR [--jobs 20] [--faults 30] [--only killed|disk|clock]

Each training's result (LoRA, embeddings, metrics, kept checkpoints) is compared byte by byte with an undisturbed one's. The full
disk is a file system of 48 MB in memory, which needs the right to mount (else this part is left out, and says so). Exit code 1 if an
acknowledged training is lost, stuck, or differs.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from studio_site import Site, at_random, disturb, queue, results, wait

SEEDS, FEW = 4, 2  # different trainings; trainings on the full disk and under the odd clock
BACKWARDS = "import time\n_real = time.time\ntime.time = lambda: 4e9 - _real()\n"  # in every process, from its start


def undisturbed(root: Path) -> dict[int, dict[str, bytes]]:
    """The results of one training for each seed; those of an earlier call are used again."""
    site = Site(root)
    if (root / "jobs").is_dir():
        done = dict(zip(sorted(path.name for path in (root / "jobs").glob("0*")), range(SEEDS), strict=True))
        if set(site.states(list(done)).values()) == {"done"}:
            return {seed: results(root, id) for id, seed in done.items()}
    site.start("--demo")
    ids = queue(site, site.ask("/pairs")[0]["id"], SEEDS, SEEDS)
    wait(lambda: set(site.states(list(ids)).values()) == {"done"}, 600 * SEEDS, "undisturbed trainings")
    site.close()
    return {seed: results(root, id) for id, seed in ids.items()}


def pace(root: Path) -> float:
    """Seconds that one undisturbed training takes here, from the times of its files."""
    ends = sorted(path.stat().st_mtime for path in (root / "jobs").glob("*/outcome.json"))
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def differing(site: Site, ids: dict[str, int], expected: dict[int, dict[str, bytes]]) -> list[str]:
    """Trainings that are lost, not done, or whose bytes differ."""
    bad = [id for id, state in site.states(list(ids)).items() if state != "done"]
    return bad + [id for id, seed in ids.items() if id not in bad and results(site.root, id) != expected[seed]]


def killed(root: Path, expected: dict[int, dict[str, bytes]], jobs: int, count: int, each: float) -> bool:
    """``each``: seconds of a training, over which the kills are spread so that they reach all of the queue."""
    site = Site(root)
    site.start("--demo")
    ids = queue(site, site.ask("/pairs")[0]["id"], jobs, SEEDS)
    faults, pause = at_random(count, longest=2 * each * jobs / count)
    began = time.monotonic()
    disturb(site, list(ids), faults, pause)
    bad = differing(site, ids, expected)
    attempts = sum(site.ask(f"/jobs/{id}")["attempt"] for id in ids)
    site.close()
    kinds = {kind: faults.count(kind) for kind in sorted(set(faults))}
    print(f"{jobs} trainings, killed {kinds}: {attempts} attempts, {time.monotonic() - began:.0f} s; differ: {bad}")
    return not bad


def backwards(root: Path, expected: dict[int, dict[str, bytes]]) -> bool:
    """Server and jobs see a clock that runs backwards; one training is killed and resumed under it."""
    folder = root.parent / "clock"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(BACKWARDS)
    site = Site(root, {"PYTHONPATH": f"{folder}:{Path(__file__).parent.parent / 'src'}"})
    site.start("--demo")
    ids = queue(site, site.ask("/pairs")[0]["id"], FEW, FEW)
    created = [job["created"] for job in site.ask("/jobs")]
    assert created == sorted(created, reverse=True), "the clock does not run backwards"
    disturb(site, list(ids), ["both", "job"], lambda: 15.0)
    bad = differing(site, ids, expected)
    site.close()
    print(f"{FEW} trainings under a clock that runs backwards, two kills: differ: {bad}")
    return not bad


def full(root: Path, expected: dict[int, dict[str, bytes]]) -> bool:
    """Trainings on a disk that fills up while they run, and has room again later."""
    root.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(root)], capture_output=True)
    if mounted.returncode:
        print("full disk: left out, nothing can be mounted here")
        return True
    site = Site(root / "studio")
    try:
        site.start("--demo")
        pair = site.ask("/pairs")[0]["id"]
        ids = queue(site, pair, FEW, FEW)
        first = next(iter(ids))
        wait(lambda: site.states([first])[first] == "running", 120, "the first training")
        time.sleep(4)
        with (root / "ballast").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        refused = site.ask("/jobs", {"spec": {"kind": "train", "pair": pair}})
        until = time.monotonic() + 600
        while "running" in site.states(list(ids)).values() and time.monotonic() < until:
            time.sleep(0.5)  # it ends at its next write
        time.sleep(15)
        states = site.states(list(ids))
        print(
            f"full: a new training is refused ({refused['status']}: {refused['problem'][:60]}...); the others are {sorted(states.values())}"
        )
        stuck = "running" in states.values()
        (root / "ballast").unlink()
        until = time.monotonic() + 900
        while set(site.states(list(ids)).values()) != {"done"} and time.monotonic() < until:
            for job in site.ask("/jobs"):
                for action in ("resume", "retry"):
                    if action in job["actions"]:
                        site.ask(f"/jobs/{job['id']}/{action}", {})
            time.sleep(2)
        bad = differing(site, ids, expected)
        print(f"room again: {FEW} trainings go on; differ: {bad}")
        return refused["status"] == 507 and not stuck and not bad
    finally:
        site.close()
        time.sleep(1)
        subprocess.run(["umount", "-l", str(root)], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--only", choices=["killed", "disk", "clock"])
    options = parser.parse_args()
    expected = undisturbed(options.output / "undisturbed")
    good = True
    if options.only in (None, "killed"):
        good &= killed(
            options.output / "killed", expected, options.jobs, options.faults, pace(options.output / "undisturbed")
        )
    if options.only in (None, "disk"):
        good &= full(options.output / "disk", expected)
    if options.only in (None, "clock"):
        good &= backwards(options.output / "clocked", expected)
    sys.exit(not good)


if __name__ == "__main__":
    main()
