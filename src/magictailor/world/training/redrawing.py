"""Renders as the embedded base draws them: with some noise, denoised by their captions. The judge reads images of the base."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from diffusers import StableDiffusionImg2ImgPipeline
from numpy.typing import NDArray
from PIL import Image

from magictailor.backbones import Backbone, load_backbone
from magictailor.backbones.sampling import SamplingOptions, sample

STEPS, GUIDANCE = 20, 4.0
STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.5)  # of the noise; with more, components change their places


@cache
def _base() -> tuple[Backbone, StableDiffusionImg2ImgPipeline]:
    backbone = load_backbone("embedded", device="cpu")
    return backbone, StableDiffusionImg2ImgPipeline(**backbone.pipeline.components)


def _redraw(
    images: NDArray[np.uint8], captions: Sequence[str], seeds: Sequence[int], strength: float
) -> list[NDArray[np.uint8]]:
    backbone, pipeline = _base()
    inputs = {"image": [Image.fromarray(image) for image in images], "strength": strength}
    options = SamplingOptions(STEPS, GUIDANCE, batch=len(images))
    return [
        np.asarray(image)
        for image in sample(backbone, captions, seeds, options, pipeline=pipeline, inputs=lambda _: inputs)
    ]


def redrawn(images: NDArray[np.uint8], captions: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
    """Images uint8 [N, S, S, 3], redrawn at the `STRENGTHS` in turn. What they show stays where it is."""
    out = np.empty_like(images)
    for number, strength in enumerate(STRENGTHS):
        part = slice(number, None, len(STRENGTHS))
        if len(images[part]):
            out[part] = _redraw(images[part], captions[part], seeds[part], strength)
    return out
