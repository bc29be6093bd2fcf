"""Masks that end where colours end: smoothing of a network's logits within areas of one colour.

An edge-avoiding à-trous filter (Dammertz et al., High Performance Graphics 2010): a few passes over 3 x 3 neighbours, from far
apart to adjacent, weighted by how similar their colours are. Drawn art is flat, so its parts are such areas.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

DISTANCES = (16, 8, 4, 2, 1)  # between neighbours, in pixels; one pass each
TOLERANCE = 0.04  # of colours in [-1, 1]: the standard deviation of a Gaussian, about 5 of 255 levels
UNLIKELY = 3.0  # classes that are nowhere closer than this to the best logit hardly ever win, and stay as they are


def _neighbors(maps: Tensor, distance: int) -> Tensor:
    """Each pixel's 3 x 3 neighbours of maps [C, H, W], [C, 9, H, W]; outside the image the border goes on."""
    padded = F.pad(maps[None], [distance] * 4, mode="replicate")
    return F.unfold(padded, 3, dilation=distance).view(len(maps), 9, *maps.shape[1:])


def _smooth(logits: Tensor, pixels: Tensor) -> Tensor:
    """One image: logits [C, H, W], pixels [3, H, W]."""
    for distance in DISTANCES:
        difference = _neighbors(pixels, distance) - pixels[:, None]
        weights = (-difference.square().sum(0) / (2 * TOLERANCE**2)).exp()
        logits = torch.einsum("cnhw,nhw->chw", _neighbors(logits, distance), weights / weights.sum(0))
    return logits


def smooth_logits(logits: Tensor, pixels: Tensor) -> Tensor:
    """Logits [N, C, H, W], averaged within areas of one colour of pixels [N, 3, H, W] in [-1, 1]."""
    out = logits.float().clone()
    for own, image in zip(out, pixels.float(), strict=True):
        likely = (own > own.amax(0) - UNLIKELY).flatten(1).any(1)
        own[likely] = _smooth(own[likely], image)
    return out
