"""The cross-attention loss: a pseudo-word attends to its own region."""

from torch import Tensor


def attention_error(maps: Tensor, mask: Tensor) -> Tensor:
    """Equation 2 for each image: || A(p_n, z_t) - M'' ||^2, its mean over the map, [N].

    ``maps`` [N, h, w]: the word's attention, mean over heads and layers, here normalised by its maximum.
    ``mask`` [N, h, w] in 0 .. 1.
    """
    peak = maps.flatten(1).amax(1)[:, None, None]
    return (maps / peak - mask).square().mean((1, 2))
