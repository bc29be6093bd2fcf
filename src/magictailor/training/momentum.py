"""The momentum network: other values for the denoiser's trained parameters, over the same base weights."""

from collections.abc import Mapping

import torch
from torch import Tensor

from magictailor.recipe import Preserve


class Momentum:
    """Values that start as the online network's when made (the end of the warm-up).

    ``copies_next``: the next update is a copy, as the reference's first one is.
    """

    def __init__(self, online: Mapping[str, Tensor], copies_next: bool = False) -> None:
        self.weights = {n: p.detach().clone() for n, p in online.items()}
        self.copies_next = copies_next

    @torch.no_grad()
    def before_step(self, online: Mapping[str, Tensor], how: Preserve) -> None:
        """What one step ago will have been."""
        if how.regulariser == "last-step":
            self._copy(online)

    @torch.no_grad()
    def after_step(self, online: Mapping[str, Tensor], how: Preserve) -> None:
        """w <- decay w + (1 - decay) online; the reference's first update is a copy instead."""
        if how.regulariser != "momentum":
            return
        if self.copies_next:
            self._copy(online)
            self.copies_next = False
            return
        kept, new = list(self.weights.values()), [online[name].detach() for name in self.weights]
        torch._foreach_lerp_(kept, new, 1 - how.decay)

    def _copy(self, online: Mapping[str, Tensor]) -> None:
        for name, weight in self.weights.items():
            weight.copy_(online[name].detach())
