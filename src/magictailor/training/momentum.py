"""The momentum network of DS-Bal: other values for the denoiser's trained parameters, on the same base weights."""

from collections.abc import Mapping

import torch
from torch import Tensor

from magictailor.recipe import Preserve


class Momentum:
    """Values that start as the online network's at the end of the warm-up.

    ``copies_next``: the next update is a copy, as the reference script's first update is (quirk 4).
    """

    def __init__(self, online: Mapping[str, Tensor], copies_next: bool = False) -> None:
        self.weights = {n: p.detach().clone() for n, p in online.items()}
        self.copies_next = copies_next

    @torch.no_grad()
    def before_step(self, online: Mapping[str, Tensor], config: Preserve) -> None:
        """last-step: take over the weights that this step is about to change."""
        if config.regulariser == "last-step":
            self._copy(online)

    @torch.no_grad()
    def after_step(self, online: Mapping[str, Tensor], config: Preserve) -> None:
        """momentum: w <- decay w + (1 - decay) online."""
        if config.regulariser != "momentum":
            return
        if self.copies_next:
            self._copy(online)
            self.copies_next = False
            return
        kept, new = list(self.weights.values()), [online[name].detach() for name in self.weights]
        torch._foreach_lerp_(kept, new, 1 - config.decay)

    def _copy(self, online: Mapping[str, Tensor]) -> None:
        for name, weight in self.weights.items():
            weight.copy_(online[name].detach())
