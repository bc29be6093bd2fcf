"""What a step is expected to take of a card, and what a process has taken."""

import sys
from typing import Any

import torch
from torch import nn

from magictailor.backbones.contract import Backbone
from magictailor.backbones.presets import COSTS, GIGABYTE, TRAINED_BYTES
from magictailor.recipe import Recipe
from magictailor.training.trainables import Trainables


def _weigh(*networks: nn.Module) -> float:
    """GB of their frozen weights."""
    return sum(p.nbytes for network in networks for p in network.parameters() if not p.requires_grad) / GIGABYTE


def expected_peak(backbone: Backbone, recipe: Recipe, trained: Trainables, images: int) -> float | None:
    """GB that a step's tensors take on the card, by `COSTS`; None for a family or precision that nothing was counted for
    (int8 keeps what checkpointing would let go of).

    ``images``: of the pair. Not in it: what the allocator loses to fragments, and some 0.5 GB of CUDA's own.
    """
    cost, place = COSTS.get(backbone.family), backbone.place
    if cost is None or place.dtype == torch.float32 or place.precision == "int8":
        return None
    pipeline: Any = backbone.pipeline
    vae, text = _weigh(pipeline.vae), _weigh(*backbone.text_encoders.values())
    step = cost.of_step(min(recipe.micro_batch or images, images), recipe.checkpointing)
    encode = cost.encode * pipeline.vae.dtype.itemsize / 2  # it may have to stay in float32
    in_turn = max(step, vae + encode, text)
    working = in_turn if place.preset.offload else vae + text + max(step, encode)
    parameters = sum(p.numel() for p in trained.parameters())
    return _weigh(backbone.denoiser) + TRAINED_BYTES * parameters / GIGABYTE + working


def forget_peak(device: torch.device) -> None:
    """Count a card's peak from here on; a process's own cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def seen_peak(device: torch.device) -> float | None:
    """GB: the most that tensors took on the card since `forget_peak`, or the most that this process took. None where
    neither is known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIGABYTE
    if device.type != "cpu" or sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIGABYTE
