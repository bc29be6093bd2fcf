"""The masked diffusion loss, and CLiC's softer mask."""

from typing import Literal

from torch import Tensor

from magictailor.recipe import ContextMask

OUTSIDE = 0.05  # CLiC's code takes mask values below it as outside
TINY = 1e-6


def masked_error(error: Tensor, mask: Tensor, masked: Literal["mask", "whole", "off"] = "mask") -> Tensor:
    """Equation 1 for each image: || error M' ||^2, [N]. ``error`` [N, C, h, w], ``mask`` [N, 1, h, w] in 0 .. 1.

    The paper leaves open over what the mean is taken. mask: sum(M' e^2) / (C sum M'), so that a large mask weighs no
    more than a small one; whole: the mean of (M' e)^2 over the whole tensor, as in the reference script; off: no mask.
    """
    if masked == "off":
        return error.square().mean((1, 2, 3))
    if masked == "whole":
        return (error * mask).square().mean((1, 2, 3))
    area = mask.sum((1, 2, 3)).clamp(min=TINY)  # an enlarged image may have lost its masked region
    return (mask * error.square()).sum((1, 2, 3)) / (error.shape[1] * area)


def context_mask(mask: Tensor, config: ContextMask | None) -> Tensor:
    """CLiC's M_soft, any shape: a + (1 - a) M by its paper; by its code a where M is below 0.05. None: M itself."""
    if config is None:
        return mask
    if config.kind == "blend":
        return config.value + (1 - config.value) * mask
    return mask.masked_fill(mask < OUTSIDE, config.value)
