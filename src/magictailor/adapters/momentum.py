"""The momentum network: other values for the denoiser's trained parameters, over the same base weights."""

from collections.abc import Mapping

import torch
from torch import Tensor

from magictailor.recipe import Preserve


class Momentum:
    """Values that start as the online network's when made (the end of the warm-up)."""

    def __init__(self, online: Mapping[str, Tensor], how: Preserve, hard_start: bool = False) -> None:
        self.how = how
        self.weights = {n: p.detach().clone() for n, p in online.items()}
        self._copy_next = hard_start

    @property
    def copies_next(self) -> bool:
        return self._copy_next

    @torch.no_grad()
    def before_step(self, online: Mapping[str, Tensor]) -> None:
        """What one step ago will have been."""
        if self.how.regulariser == "last-step":
            self._copy(online)

    @torch.no_grad()
    def after_step(self, online: Mapping[str, Tensor]) -> None:
        """w <- decay w + (1 - decay) online; the reference's first update is a copy instead."""
        if self.how.regulariser != "momentum":
            return
        if self._copy_next:
            self._copy(online)
            self._copy_next = False
            return
        kept, new = list(self.weights.values()), [online[name].detach() for name in self.weights]
        torch._foreach_lerp_(kept, new, 1 - self.how.decay)

    def _copy(self, online: Mapping[str, Tensor]) -> None:
        for name, weight in self.weights.items():
            weight.copy_(online[name].detach())

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], copies_next: bool) -> None:
        for name, weight in self.weights.items():
            weight.copy_(tensors[name])
        self._copy_next = copies_next
