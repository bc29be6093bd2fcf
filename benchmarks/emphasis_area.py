"""In how much of the image should emphasis act? Finished runs of a bench, drawn with several strengths and areas.

    python benchmarks/emphasis_area.py FOLDER [--method without-dm-deg]

FOLDER is one of `magictailor bench run benchmarks/emphasis.toml` with its runs. Prints means over pairs.
"""

import argparse
from collections import defaultdict
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

from magictailor import Pair, load
from magictailor.backbones.guidance import most_different
from magictailor.evaluate.metrics.judging import JudgeScorer
from magictailor.evaluate.metrics.quality import JudgeQuality
from magictailor.evaluate.metrics.scorer import ScoredImage, Target
from magictailor.generation.protocol import PROMPTS
from magictailor.world.pairs import world_pair

VARIANTS = ((0, 1), (0.8, 1), (0.8, 0.3), (1.2, 0.15), (1.2, 0.3))  # strength and area
CLAUSES = ("snow", "beach", "watercolor", "night")
METRICS = ("identity", "concept error", "component error", "pollution", "kid")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", default="without-dm-deg")
    options = parser.parse_args()
    found: dict[tuple[float, float], dict[str, list[float]]] = {v: defaultdict(list) for v in VARIANTS}
    for home in sorted((options.folder / "runs").glob("world-*")):
        pair, run = world_pair(int(home.name.removeprefix("world-"))), load(home / options.method)
        both = " with ".join(pair.words)
        prompts = [f"a photo of {both}", *(f"{both}, {PROMPTS[clause]}" for clause in CLAUSES)]
        for strength, area in VARIANTS:
            with patch("magictailor.backbones.guidance.most_different", partial(most_different, area=area)):
                items = list(run.generate(prompts, number=2, emphasis=strength))
            images = [ScoredImage(item.record.prompt, item.record.seed, item.image) for item in items]
            own = defaultdict[str, list[float]](list)
            for scorer in (JudgeScorer(), JudgeQuality()):
                for score in scorer.score(Target(Pair(home.name, ()), list(pair.words), pair), images):
                    own[score.metric].append(score.value)
            for metric in METRICS:
                if metric in own:
                    found[strength, area][metric].append(float(np.mean(own[metric])))
        print(home.name, flush=True)
    for (strength, area), values in found.items():
        print(f"{strength} in {area:.0%}", {m: round(float(np.mean(v)), 3) for m, v in values.items()})


if __name__ == "__main__":
    main()
