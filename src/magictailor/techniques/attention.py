"""The cross-attention loss: a pseudo-word attends to its own region."""

from torch import Tensor


def attention_error(maps: Tensor, masks: Tensor, normalised: bool = True) -> Tensor:
    """Equation 2 for each map: || A(p_n, z_t) - M'' ||^2, its mean over the map; leading dimensions are kept.

    ``maps`` [..., h, w]: a word's attention, mean over heads and layers; the paper, and Break-A-Scene, divide it by
    its maximum (``normalised``), CLiC does not. ``masks`` [..., h, w] in 0 .. 1.
    """
    peak = maps.amax((-2, -1), keepdim=True) if normalised else 1
    return (maps / peak - masks).square().mean((-2, -1))
