"""Dual-Stream Balancing (DS-Bal): train the worst sample, hold the others to the momentum network."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor


def sample_means(per_image: Tensor, samples: Sequence[int], count: int) -> Tensor:
    """The mean over each sample's images, [count]. ``per_image`` [K], ``samples`` its images' sample numbers."""
    index = torch.tensor(list(samples), device=per_image.device)
    total = torch.zeros(count, dtype=per_image.dtype, device=per_image.device).index_add(0, index, per_image)
    return total / torch.bincount(index, minlength=count)


def worst(losses: Tensor) -> int:
    """Equation 6: n* = argmax_n L_diff(n)."""
    return int(losses.argmax())


def diffusion_weights(losses: Tensor, reduce: Literal["mean", "max"]) -> Tensor:
    """How much each sample's diffusion loss counts, [N]: 1 / N each (equation 3), or 1 for n* (equation 6)."""
    if reduce == "mean":
        return torch.full_like(losses, 1 / len(losses))
    weights = torch.zeros_like(losses)
    weights[worst(losses)] = 1
    return weights


def preserve_weights(losses: Tensor) -> Tensor:
    """How much each sample counts in L_pres (equation 7), [N]: the mean over n != n*; nothing with one sample."""
    weights = torch.full_like(losses, 1 / max(1, len(losses) - 1))
    weights[worst(losses)] = 0
    return weights
