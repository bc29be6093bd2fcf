"""Finished runs of a bench of tuning pairs, generated again in other ways and scored by the judge."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from magictailor import Pair, Run, load
from magictailor.evaluate.metrics.judging import JudgeScorer
from magictailor.evaluate.metrics.quality import JudgeQuality
from magictailor.evaluate.metrics.scorer import ScoredImage, Target
from magictailor.generation.protocol import PROMPTS
from magictailor.world.pairs import WorldPair, world_pair

CLAUSES = ("snow", "beach", "watercolor", "night")


def finished(folder: Path, method: str) -> Iterator[tuple[WorldPair, Run]]:
    """The bench's pairs, and the method's run of each."""
    for home in sorted((folder / "runs").glob("world-*")):
        yield world_pair(int(home.name.removeprefix("world-"))), load(home / method)


def scores(pair: WorldPair, run: Run, **options: Any) -> dict[str, float]:
    """Means by metric of two images of each of five prompts. ``options``: of `Run.generate`."""
    both = " with ".join(pair.words)
    prompts = [f"a photo of {both}", *(f"{both}, {PROMPTS[clause]}" for clause in CLAUSES)]
    items = list(run.generate(prompts, number=2, **options))
    images = [ScoredImage(item.record.prompt, item.record.seed, item.image) for item in items]
    target, found = Target(Pair(f"world-{pair.seed}", ()), list(pair.words), pair), defaultdict[str, list[float]](list)
    for scorer in (JudgeScorer(), JudgeQuality()):
        for score in scorer.score(target, images):
            found[score.metric].append(score.value)
    return {metric: float(np.mean(values)) for metric, values in found.items()}
