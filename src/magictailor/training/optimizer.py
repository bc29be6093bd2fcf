"""The optimizers that a recipe can name."""

from typing import Any

import torch

from magictailor.common.errors import InputError
from magictailor.recipe import Optimisation


def make_optimizer(groups: list[dict[str, Any]], config: Optimisation) -> torch.optim.Optimizer:
    """``groups``: parameters, each with the ``scale`` of its learning rate.

    Raises:
        InputError: prodigy without its package.
    """
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, weight_decay=config.weight_decay, fused=True)
    try:
        from prodigyopt import Prodigy
    except ImportError as error:
        raise InputError(
            "prodigy: its package is not installed",
            "run `pip install 'magictailor[prodigy]'`, or set optimisation.optimizer=adamw with your own phases.*.lr",
            field="optimisation.optimizer",
        ) from error
    # It knows one rate for all; its constructor prints a line about any decay that it is given.
    alike = [group | {"scale": 1.0, "weight_decay": config.weight_decay} for group in groups]
    optimizer: torch.optim.Optimizer = Prodigy(
        alike, betas=config.betas, use_bias_correction=True, safeguard_warmup=True
    )
    return optimizer
