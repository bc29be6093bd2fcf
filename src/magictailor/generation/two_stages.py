"""CLiC generates in two stages: the first steps with the base's weights and labels, the rest with the run's."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from magictailor.backbones import Backbone, load_backbone
from magictailor.backbones.sampling import Stages
from magictailor.common.tensors import read_tensors, unprefixed
from magictailor.training.run_folder import WEIGHTS_FILE, RunInfo
from magictailor.training.trainables import DENOISER


def _base_weights(info: RunInfo, names: Sequence[str]) -> dict[str, Tensor]:
    """The base's own values of these weights of the denoiser."""
    backbone = load_backbone(info.model, list(info.loras), device="cpu", precision="fp32")
    own = dict(backbone.denoiser.named_parameters())
    return {name: own[name].detach() for name in names}


def _writer(denoiser: nn.Module) -> Callable[[Mapping[str, Tensor]], None]:
    @torch.no_grad()
    def write(values: Mapping[str, Tensor]) -> None:
        parameters = dict(denoiser.named_parameters())
        for name, value in values.items():
            parameters[name].copy_(value)

    return write


def two_stages(info: RunInfo, folder: Path, backbone: Backbone) -> Stages | None:
    """For a recipe whose first steps are the base's own; None for all others."""
    if info.recipe.sampling.base_steps == 0:
        return None
    tuned = unprefixed(DENOISER, read_tensors(folder / WEIGHTS_FILE))
    base, write = _base_weights(info, list(tuned)), _writer(backbone.denoiser)
    return Stages(info.recipe.sampling.base_steps, lambda: write(base), lambda: write(tuned))
