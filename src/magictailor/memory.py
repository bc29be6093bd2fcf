"""What a step is expected to take of a card, and what a process has taken."""

import sys

import torch

from magictailor.adapters.trainables import Trainables
from magictailor.backbones.contract import Backbone
from magictailor.backbones.presets import COSTS, GIGABYTE, TRAINED_BYTES
from magictailor.processes import process
from magictailor.recipe import Recipe


def _weights(backbone: Backbone, trained: Trainables) -> tuple[int, int]:
    """Bytes of the frozen weights: the denoiser's, and those of all else."""
    own = {id(p) for p in trained.parameters()}
    denoiser = sum(p.nbytes for p in backbone.denoiser.parameters() if id(p) not in own)
    pipeline = backbone.pipeline
    rest = (pipeline.vae, *backbone.text_encoders.values())
    return denoiser, sum(p.nbytes for network in rest for p in network.parameters())


def expected_peak(backbone: Backbone, recipe: Recipe, trained: Trainables, images: int) -> float | None:
    """GB that a step's tensors take on the card, by `COSTS`; None for a family or precision that nothing was counted for.

    ``images``: of the pair. Not in it: what the allocator loses to fragments, and some 0.5 GB of CUDA's own.
    """
    cost = COSTS.get(backbone.family)
    if cost is None or backbone.place.dtype == torch.float32:
        return None
    together = min(recipe.micro_batch or images, -(-images // process()[1]))
    denoiser, rest = _weights(backbone, trained)
    step, encode = cost.of_step(together, recipe.checkpointing), cost.encode
    if backbone.place.preset.offload:  # on the card in turn: what encodes, and the denoiser's step
        working = max(step, encode + rest / GIGABYTE)
    else:
        working = rest / GIGABYTE + max(step, encode)
    parameters = sum(p.numel() for p in trained.parameters())
    return denoiser / GIGABYTE + TRAINED_BYTES * parameters / GIGABYTE + working


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
