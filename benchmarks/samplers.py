"""Can images be generated in fewer steps? Finished runs of a bench, drawn with other schedulers and steps, and the seconds.

    python benchmarks/samplers.py FOLDER [--method magictailor]

FOLDER is a bench of tuning pairs with its runs, for instance of benchmarks/less-work.toml. Prints means over pairs, and p of
the differences from the first row (sign flips, two-sided).
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from magictailor import Pair, load
from magictailor.evaluate.metrics.judging import JudgeScorer
from magictailor.evaluate.metrics.quality import JudgeQuality
from magictailor.evaluate.metrics.scorer import ScoredImage, Target
from magictailor.evaluate.reporting.statistics import sign_flip_interval, sign_flip_test
from magictailor.generation.protocol import PROMPTS
from magictailor.world.pairs import world_pair

VARIANTS = (("own", 25), ("own", 12), ("dpm++", 15), ("dpm++", 12))  # own: the base's
CLAUSES = ("snow", "beach", "watercolor", "night")
METRICS = ("identity", "concept error", "component error", "kid", "text")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", default="magictailor")
    options = parser.parse_args()
    found: dict[tuple[str, int], dict[str, list[float]]] = {v: defaultdict(list) for v in VARIANTS}
    for home in sorted((options.folder / "runs").glob("world-*")):
        pair, run = world_pair(int(home.name.removeprefix("world-"))), load(home / options.method)
        both = " with ".join(pair.words)
        prompts = [f"a photo of {both}", *(f"{both}, {PROMPTS[clause]}" for clause in CLAUSES)]
        for variant in VARIANTS:
            scheduler, steps = variant
            started = time.process_time()
            name = next(iter(run.backbone.schedulers)) if scheduler == "own" else scheduler
            items = list(run.generate(prompts, number=2, scheduler=name, steps=steps))
            found[variant]["seconds"].append((time.process_time() - started) / len(items))
            images = [ScoredImage(item.record.prompt, item.record.seed, item.image) for item in items]
            own = defaultdict[str, list[float]](list)
            for scorer in (JudgeScorer(), JudgeQuality()):
                for score in scorer.score(Target(Pair(home.name, ()), list(pair.words), pair), images):
                    own[score.metric].append(score.value)
            for metric in METRICS:
                found[variant][metric].append(float(np.mean(own[metric])) if metric in own else np.nan)
        print(home.name, {v: round(values["identity"][-1], 3) for v, values in found.items()}, flush=True)
    first = found[VARIANTS[0]]
    for (scheduler, steps), values in found.items():
        print(scheduler, steps, {m: round(float(np.nanmean(v)), 3) for m, v in values.items()})
        for metric in METRICS:
            differences = np.subtract(values[metric], first[metric])
            known = differences[np.isfinite(differences)].tolist()
            interval = sign_flip_interval(known)
            print(
                f"    {metric} {interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}], p {sign_flip_test(known):.3f}"
            )


if __name__ == "__main__":
    main()
