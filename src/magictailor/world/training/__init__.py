"""Training of the embedded base: worker processes render scenes, then the autoencoder and the denoiser are trained.

Names are imported at first use: a process that only renders needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from magictailor.world.training.recipe import WorldTraining
    from magictailor.world.training.train import train_world

__all__ = ["WorldTraining", "train_world"]
_MODULES = {"WorldTraining": "recipe", "train_world": "train"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
