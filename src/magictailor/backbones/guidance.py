"""What guidance leads away from: the empty prompt, and prompts without what should be emphasised."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from magictailor.backbones.conditions import NegativePrompts
from magictailor.backbones.contract import Backbone
from magictailor.common.errors import InputError


class Guided(Backbone):
    """A backbone whose pipeline has guidance of one kind or another."""

    negative = True  # guidance is classifier-free, and not an input of the denoiser
    no_guidance = 1.0  # the guidance that changes nothing
    averages = True  # encoded prompts have one length, so that a mean of two is one

    def guidance_inputs(self, guidance: float) -> dict[str, Any]:
        return {"guidance_scale": guidance}

    def check_negative_prompts(self, guidance: float) -> None:
        problem = None
        if not self.negative:
            problem = f"{self.family} has no negative prompt, which this needs"
        elif not self.averages:
            problem = f"{self.family} encodes prompts to different lengths, which have no mean"
        elif guidance <= self.no_guidance:
            problem = f"has no effect with guidance {guidance:g}"
        if problem:
            raise InputError(problem, "leave it out", field="emphasis")

    def _negative(self, number: int, negatives: NegativePrompts | None) -> Mapping[str, Tensor]:
        """What guidance leads away from, encoded."""
        free = self._unconditional(number)
        if negatives is None:
            return free
        other = self.encode_text(negatives.prompts).tensors
        return {name: torch.lerp(value, other[name].to(value), negatives.share) for name, value in free.items()}

    def _unconditional(self, number: int) -> Mapping[str, Tensor]:
        return self.encode_text([""] * number).tensors
