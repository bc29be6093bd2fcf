"""The masked diffusion loss, and CLiC's softer mask."""

from typing import Literal

from torch import Tensor

from magictailor.recipe import ContextMask

FAINT = 0.05  # what CLiC's code takes as outside
TINY = 1e-6


def masked_error(error: Tensor, mask: Tensor, how: Literal["mask", "whole", "off"] = "mask") -> Tensor:
    """Equation 1 for each image: || error M' ||^2, [N]. ``error`` [N, C, h, w], ``mask`` [N, 1, h, w] in 0 .. 1.

    The paper leaves the mean open. mask: sum(M' e^2) / (C sum M'), so that a large mask does not count more
    than a small one; whole: the mean of (M' e)^2 over the whole tensor, as the reference; off: no mask.
    """
    if how == "off":
        return error.square().mean((1, 2, 3))
    if how == "whole":
        return (error * mask).square().mean((1, 2, 3))
    area = mask.sum((1, 2, 3)).clamp(min=TINY)  # a picture made larger may have lost its masked part
    return (mask * error.square()).sum((1, 2, 3)) / (error.shape[1] * area)


def context_mask(mask: Tensor, how: ContextMask | None) -> Tensor:
    """CLiC's M_soft, any shape: a + (1 - a) M by its paper; by its code a where M is below 0.05. None: M itself."""
    if how is None:
        return mask
    if how.kind == "blend":
        return how.value + (1 - how.value) * mask
    return mask.masked_fill(mask < FAINT, how.value)
