"""Dual-Stream Balancing (DS-Bal): train the worst sample, preserve the others with the momentum network."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from magictailor.common.tensors import to_device


def sample_means(per_image: Tensor, samples: Sequence[int], count: int) -> Tensor:
    """The mean over each sample's images, [count]; not a number for a sample without images.

    ``per_image`` [K], ``samples``: the sample of each of them.
    """
    index, device = torch.tensor(list(samples)), per_image.device
    images = torch.bincount(index, minlength=count)  # on the CPU: a card would be waited for
    total = torch.zeros(count, dtype=per_image.dtype, device=device).index_add(0, to_device(index, device), per_image)
    return total / to_device(images, device)


def worst(losses: Tensor) -> Tensor:
    """Equation 6: n* = argmax_n L_diff(n), as a mask [N] with one True."""
    return torch.arange(len(losses), device=losses.device) == losses.argmax()


def diffusion_weights(losses: Tensor, reduce: Literal["mean", "max"]) -> Tensor:
    """The weight of each sample's diffusion loss, [N]: 1 / N each (equation 3), or 1 for n* (equation 6)."""
    if reduce == "mean":
        return torch.full_like(losses, 1 / len(losses))
    return worst(losses).to(losses.dtype)


def preserve_weights(losses: Tensor) -> Tensor:
    """The weight of each sample in L_pres (equation 7), [N]: the mean over n != n*; zero with one sample."""
    return torch.where(worst(losses), 0.0, 1 / max(1, len(losses) - 1))
