"""Drawing in two stages (CLiC): the first steps by the base itself and under labels, the rest by the run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from magictailor.backbones import load_backbone
from magictailor.backbones.sampling import Stages
from magictailor.common.tensors import read_tensors, unprefixed
from magictailor.training.checkpoint import WEIGHTS_FILE, RunInfo
from magictailor.training.trainables import DENOISER


def _base_weights(info: RunInfo, names: Sequence[str]) -> dict[str, Tensor]:
    """The base's own values of these of the denoiser's weights."""
    backbone = load_backbone(info.model, list(info.loras), device="cpu", precision="fp32")
    own = dict(backbone.denoiser.named_parameters())
    return {name: own[name].detach() for name in names}


def _writer(denoiser: Any) -> Callable[[Mapping[str, Tensor]], None]:
    @torch.no_grad()
    def write(values: Mapping[str, Tensor]) -> None:
        parameters = dict(denoiser.named_parameters())
        for name, value in values.items():
            parameters[name].copy_(value)

    return write


def two_stages(info: RunInfo, folder: Any, pipeline: Any) -> Stages | None:
    """For a recipe whose first steps are the base's own; None for all others."""
    if info.recipe.base_steps == 0:
        return None
    tuned = unprefixed(DENOISER, read_tensors(folder / WEIGHTS_FILE))
    base, write = _base_weights(info, list(tuned)), _writer(pipeline.unet)
    return Stages(info.recipe.base_steps, lambda: write(base), lambda: write(tuned))
