"""Prompts, settings and networks that tests of today's families share."""

from typing import Any

import pytest
import torch
from torch import Tensor

from families import BUILDERS, SIZE, pipeline
from magictailor.backbones.families import backbone_class
from magictailor.training.setup import build
from magictailor.training.step import train_step
from magictailor.training.train import make_recipe
from tiny import pair

SHORT = [
    f"data.size={SIZE}", "phases.0.steps=2", "phases.1.steps=2", "sampling.steps=2", "sampling.preview_every=0",
    "train.0.rank=2", "phases.0.lr=1e-2",
]  # fmt: skip
PROMPTS = ("a photo of <person> with <hair>", "a photo of <hair>")
WORDS = (("<person>", "<hair>"), ("<hair>",))
GUIDED = {"flux": 3.5, "flux2-dev": 3.5}  # an input of the denoiser, and its value in training
TEXTS = {"<person>": "sks person", "<hair>": "ktn hair"}

every_family = pytest.mark.parametrize("family", BUILDERS)


def base(family: str) -> Any:
    """In memory, at the tests' size, with words."""
    made = pipeline(family)
    backbone = backbone_class(type(made).__name__)(family, made)
    backbone.use_size(SIZE)
    backbone.add_words(TEXTS)
    return backbone


def inputs(backbone: Any, height: int = SIZE, width: int = SIZE) -> tuple[Tensor, Tensor, Any]:
    random = torch.Generator().manual_seed(3)
    noisy = torch.randn(2, *backbone.latent_shape(height, width), generator=random)
    return noisy, backbone.times(torch.tensor([0.2, 0.7])), backbone.encode_text(PROMPTS, list(TEXTS))


def gradients(family: str, settings: list[str]) -> dict[str, Tensor]:
    """Of a step's LoRA, whose weights are noise."""
    backbone = base(family)
    training = build(pair((2, 1)), make_recipe(backbone, settings=[*SHORT, *settings]), backbone)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in training.trained.lora.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    with training.objective.reading_attention():
        train_step(training.objective, 0, None)
    return {n: p.grad for n, p in training.trained.lora.items() if p.grad is not None}
