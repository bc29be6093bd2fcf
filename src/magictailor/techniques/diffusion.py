"""The masked diffusion loss."""

from typing import Literal

from torch import Tensor


def masked_error(error: Tensor, mask: Tensor, how: Literal["mask", "whole", "off"] = "mask") -> Tensor:
    """Equation 1 for each image: || error M' ||^2, [N]. ``error`` [N, C, h, w], ``mask`` [N, 1, h, w] in 0 .. 1.

    The paper leaves the mean open. mask: sum(M' e^2) / (C sum M'), so that a large mask does not count more
    than a small one; whole: the mean of (M' e)^2 over the whole tensor, as the reference; off: no mask.
    """
    if how == "off":
        return error.square().mean((1, 2, 3))
    if how == "whole":
        return (error * mask).square().mean((1, 2, 3))
    return (mask * error.square()).sum((1, 2, 3)) / (error.shape[1] * mask.sum((1, 2, 3)))
