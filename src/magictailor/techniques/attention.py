"""The cross-attention loss: a pseudo-word attends to its own region."""

from torch import Tensor


def attention_error(maps: Tensor, mask: Tensor, normalised: bool = True) -> Tensor:
    """Equation 2 for each map: || A(p_n, z_t) - M'' ||^2, its mean over the map, [N].

    ``maps`` [N, h, w]: a word's attention, mean over heads and layers; the paper, and Break-A-Scene, divide it by
    its maximum (``normalised``), CLiC does not. ``mask`` [N, h, w] in 0 .. 1.
    """
    peak = maps.flatten(1).amax(1)[:, None, None] if normalised else 1
    return (maps / peak - mask).square().mean((1, 2))
