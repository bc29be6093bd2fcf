"""The memory that a step is expected to take on a card, and the memory that a process has taken."""

import sys

import torch
from torch import nn

from magictailor.backbones.contract import Backbone
from magictailor.backbones.presets import GIGABYTE, TRAINED_BYTES, cost_of
from magictailor.recipe import Recipe
from magictailor.training.trainables import Trainables

MOST_AT_ONCE = 64  # images of a forward pass, where micro_batch says nothing


def _size_gb(*networks: nn.Module) -> float:
    """GB of their frozen weights."""
    return sum(p.nbytes for network in networks for p in network.parameters() if not p.requires_grad) / GIGABYTE


def _itemsize(network: nn.Module) -> int:
    return next(network.parameters()).element_size()


def expected_peak(backbone: Backbone, recipe: Recipe, trained: Trainables, images: int) -> float | None:
    """GB that a step's tensors take on the card, by `COSTS`; None for a family or precision without counted numbers
    (int8 keeps activations that checkpointing would recompute).

    ``images``: of a step. Without the allocator's fragments and some 0.5 GB of CUDA's own.
    """
    cost, runtime = cost_of(backbone.family, backbone.size), backbone.runtime
    if cost is None or runtime.dtype == torch.float32 or runtime.precision == "int8":
        return None
    vae, text = _size_gb(backbone.autoencoder), _size_gb(*backbone.text_encoders.values())
    step = cost.of_step(min(recipe.optimisation.micro_batch or MOST_AT_ONCE, images), recipe.optimisation.checkpointing)
    encode = cost.encode * _itemsize(backbone.autoencoder) / 2  # it may have to stay in float32
    in_turn = max(step, vae + encode, text)
    working = in_turn if runtime.preset.offload else vae + text + max(step, encode)
    parameters = sum(p.numel() for p in trained.parameters())
    return _size_gb(backbone.denoiser) + TRAINED_BYTES * parameters / GIGABYTE + working


def reset_peak_memory(device: torch.device) -> None:
    """Measure a card's peak from here on; that of a process cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gb(device: torch.device) -> float | None:
    """GB: the most that tensors took on the card since `reset_peak_memory`, or the most that this process took. None where
    neither is known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIGABYTE
    if device.type != "cpu" or sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIGABYTE
