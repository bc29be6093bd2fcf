"""Several processes share a step: each takes some of its micro-batches, and sums go over all of them.

Nothing here starts processes: without a torch.distributed group, which the caller makes, there is one.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def process() -> tuple[int, int]:
    """This process's number, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if _together() else (0, 1)


def summed(*tensors: Tensor) -> None:
    """Add up each tensor over all processes, in place. All processes give the same tensors in the same order."""
    if _together():
        for tensor in tensors:
            dist.all_reduce(tensor)


def summed_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients over all processes; one that had no part of the step gives zeros."""
    if _together():
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
