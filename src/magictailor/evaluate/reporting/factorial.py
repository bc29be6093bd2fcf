"""The 2 x 2 of the two techniques, with and without each: main effects and interaction, on each pair.

An effect is averaged over the other technique being there or not, so it has twice the data of a single contrast.
"""

from collections.abc import Sequence

from magictailor.evaluate.metrics import higher_is_better
from magictailor.evaluate.reporting.contrasts import Contrast, with_holm
from magictailor.evaluate.reporting.paper import OURS
from magictailor.evaluate.reporting.tables import DIGITS
from magictailor.evaluate.scores import Scores, common

CELLS = ("without-both", "without-ds-bal", "without-dm-deg", OURS)  # neither, DM-Deg alone, DS-Bal alone, both
EFFECTS = {
    "DM-Deg": (-0.5, 0.5, -0.5, 0.5),
    "DS-Bal": (-0.5, -0.5, 0.5, 0.5),
    "DM-Deg x DS-Bal": (0.5, -0.5, -0.5, 0.5),
}


def cell_means(scores: Scores, metric: str) -> dict[str, dict[str, float]]:
    """The metric's mean on each pair in each of `CELLS`, over the images that all four have."""
    among = common([scores.values(method, metric).image for method in CELLS])
    return {method: scores.pair_means(method, metric, among) for method in CELLS}


def factorial(scores: Scores, metrics: Sequence[str]) -> list[Contrast]:
    """Each effect in each metric, as one table; empty if one of `CELLS` is missing. The interaction is how much more a
    technique gains where the other one is there, halved."""
    made = []
    for metric in metrics:
        means = cell_means(scores, metric)
        for effect, weights in EFFECTS.items():
            by_pair = [
                round(sum(w * means[m][pair] for m, w in zip(CELLS, weights, strict=True)), DIGITS)
                for pair in sorted(means[OURS])
            ]
            if by_pair:
                made.append(Contrast(effect, "none", metric, tuple(by_pair), higher_is_better()[metric]))
    return with_holm(made)
