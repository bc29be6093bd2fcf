"""Training of the embedded base: pictures drawn by worker processes, then the autoencoder, then the denoiser.

Names are imported when first used: a process that draws needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from magictailor.world.training.recipe import WorldTraining
    from magictailor.world.training.run import train_world

__all__ = ["WorldTraining", "train_world"]
_HOMES = {"WorldTraining": "recipe", "train_world": "run"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
