"""How much a pair's score depends on the training's seed, from the pairs that were trained with several."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from magictailor.evaluate.anchor_names import ANCHORS
from magictailor.evaluate.scores import Scores


def training_deviation(scores: Scores, method: str, metric: str) -> tuple[float, int]:
    """The standard deviation of a pair's mean between trainings, and the number of pairs; NaN and 0 without repetitions.

    The images of all trainings have the same noise, so only those count that every training of the pair has.
    """
    values = scores.values(method, metric)
    by_pair: dict[str, dict[int, dict[tuple[str, int], float]]] = defaultdict(lambda: defaultdict(dict))
    for (pair, prompt, seed, training), value in zip(scores.keys(values.image), values.value.tolist(), strict=True):
        by_pair[pair][training][prompt, seed] = value
    variances = []
    for trainings in by_pair.values():
        shared = set.intersection(*(set(images) for images in trainings.values()))
        if len(trainings) > 1 and shared:
            means = [np.mean([images[key] for key in shared]) for images in trainings.values()]
            variances.append(float(np.var(means, ddof=1)))
    return (math.sqrt(float(np.mean(variances))), len(variances)) if variances else (math.nan, 0)


def repeat_lines(scores: Scores, metrics: Sequence[str]) -> list[list[str]]:
    """Rows of texts, the header first: each method that was trained with several seeds, and its deviation in each metric."""
    lines = []
    for method in (m for m in scores.methods if m not in ANCHORS):
        found = [training_deviation(scores, method, metric) for metric in metrics]
        if pairs := max(count for _, count in found):
            lines.append([method, *("" if math.isnan(value) else f"{value:.3f}" for value, _ in found), str(pairs)])
    return [["method", *metrics, "pairs"], *lines]
