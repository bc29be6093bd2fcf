"""How far a method gets from "not transferred" to the truth, on each pair that has both anchors.

A share is (error of the floor - error) / (error of the floor - error of the truth): 0 if nothing was transferred, 1 at the
truth. The floor of the component is the concept with its own one; the floor of the concept is the component's owner.
"""

from magictailor.evaluate.scores import Scores, common

FLOORS = {"concept share": ("concept error", "owner"), "component share": ("component error", "nothing-transferred")}
CEILING = "truth"
LEAST_RANGE = 0.05  # of the errors of floor and ceiling; less cannot be divided by


def share_means(scores: Scores, method: str, share: str) -> dict[str, float]:
    """The share by pair. ``share``: of `FLOORS`. Pairs whose anchors hardly differ are left out."""
    metric, floor = FLOORS[share]
    prompts = [scores.prompt_codes(name, metric) for name in (method, floor, CEILING)]
    among = common(prompts)
    own, low, high = (scores.pair_means(name, metric, of_prompts=among) for name in (method, floor, CEILING))
    return {
        pair: (low[pair] - value) / (low[pair] - high[pair])
        for pair, value in own.items()
        if pair in low and pair in high and low[pair] - high[pair] > LEAST_RANGE
    }
