"""Can images be generated in fewer steps? Finished runs of a bench, drawn with other schedulers and steps, and the seconds.

    python benchmarks/samplers.py FOLDER [--method magictailor]

FOLDER is a bench of tuning pairs with its runs, for instance of benchmarks/one-change.toml. Prints means over pairs, and p of
the differences from the first row (sign flips, two-sided).
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from redrawn import finished, scores

from magictailor.evaluate.reporting.statistics import sign_flip_interval, sign_flip_test

VARIANTS = (("own", 25), ("own", 12), ("dpm++", 15), ("dpm++", 12))  # own: the base's
METRICS = ("identity", "concept error", "component error", "kid", "text")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", default="magictailor")
    options = parser.parse_args()
    found: dict[tuple[str, int], dict[str, list[float]]] = {v: defaultdict(list) for v in VARIANTS}
    for pair, run in finished(options.folder, options.method):
        for scheduler, steps in VARIANTS:
            name = next(iter(run.backbone.schedulers)) if scheduler == "own" else scheduler
            values = found[scheduler, steps]
            started = time.process_time()
            list(run.generate(" with ".join(pair.words), number=4, scheduler=name, steps=steps))
            values["seconds of an image"].append((time.process_time() - started) / 4)
            own = scores(pair, run, scheduler=name, steps=steps)
            for metric in METRICS:
                values[metric].append(own.get(metric, np.nan))
        print(pair.seed, {v: round(values["identity"][-1], 3) for v, values in found.items()}, flush=True)
    first = found[VARIANTS[0]]
    for (scheduler, steps), values in found.items():
        print(scheduler, steps, {m: round(float(np.nanmean(v)), 3) for m, v in values.items()})
        for metric in METRICS:
            differences = np.subtract(values[metric], first[metric])
            known = differences[np.isfinite(differences)].tolist()
            interval, p = sign_flip_interval(known), sign_flip_test(known)
            print(f"    {metric} {interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}], p {p:.3f}")


if __name__ == "__main__":
    main()
