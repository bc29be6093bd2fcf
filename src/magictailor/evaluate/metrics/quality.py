"""Image quality as Kernel Inception Distance (Binkowski 2018), on the judge's features instead of Inception's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magictailor.evaluate.metrics.judging import judge_name, judge_network
from magictailor.evaluate.metrics.prompts import ParsedPrompt, parse_prompt
from magictailor.evaluate.metrics.scorer import WHOLE, Score, ScoredImage, Target
from magictailor.world.judgement import judged
from magictailor.world.pairs import WorldPair
from magictailor.world.render import render
from magictailor.world.scene import random_stage

RENDERS = 10  # true images of each prompt
Floats = NDArray[np.floating]


def kernel_distance(first: Floats, second: Floats) -> float:
    """The unbiased squared maximum mean discrepancy of features [M, D] and [N, D] with the kernel (x . y / D + 1)^3.

    Its expectation is 0 if both come from one distribution, so single values may be negative.
    """
    size = first.shape[1]

    def kernel(a: Floats, b: Floats) -> Floats:
        return (a @ b.T / size + 1) ** 3

    def within(a: Floats) -> float:
        values = kernel(a, a)
        return float((values.sum() - np.trace(values)) / (len(a) * (len(a) - 1)))

    return within(first) + within(second) - 2 * float(kernel(first, second).mean())


@cache
def _true_features(pair: WorldPair, prompts: tuple[ParsedPrompt, ...]) -> Floats:
    """Features of true images of the prompts, with positions and sizes drawn at random as in the world, [N, D]."""
    scenes = []
    for number, parsed in enumerate(prompts):
        for draw in range(RENDERS):
            stage = random_stage(np.random.default_rng((pair.seed, number, draw, 7)), (parsed.subject(pair),))
            scenes.append(replace(stage, context=parsed.context, treatment=parsed.treatment, view=parsed.view))
    return _features([render(scene).image for scene in scenes])


def _features(images: Sequence[Image.Image | NDArray[np.uint8]]) -> Floats:
    """The judge's features, scaled to a mean square of 1 per element, [N, D]."""
    features = np.stack([judgement.features for judgement in judged(judge_network(), images)]).astype(np.float64)
    return features * np.sqrt(features.shape[1])


@dataclass(frozen=True)
class JudgeQuality:
    """100 times the kernel distance of all images of a unit to true images of the same pair and prompts."""

    higher_is_better: dict[str, bool] = field(default_factory=lambda: {"kid": False})

    @property
    def model(self) -> str:
        return f"{judge_name()}, {RENDERS} renders a prompt"

    def prepare(self) -> None:
        judge_network()

    def score(self, target: Target, images: Sequence[ScoredImage]) -> Iterator[Score]:
        if target.world is None:
            return
        known = [(i.image, r) for i in images if (r := parse_prompt(i.prompt, target.words)) is not None]
        known = [(image, parsed) for image, parsed in known if parsed.concept or parsed.component]
        if len(known) > 1:
            true = _true_features(target.world, tuple(dict.fromkeys(parsed for _, parsed in known)))
            yield Score(*WHOLE, "kid", 100 * kernel_distance(_features([image for image, _ in known]), true))
