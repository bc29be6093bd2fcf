"""Component-controllable personalization of text-to-image diffusion models.

from magictailor import personalize

run = personalize("my_pair", "runs/ada")
for item in run.generate("<person> with <hair>, on the beach", number=8):
    item.image.save(f"{item.record.seed}.png")
run.export("for-comfyui", "comfyui")
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Read by OpenMP when torch is first imported. Threads that spin for long collapse when cores are shared; threads that
# sleep at once take longer to wake than a small layer takes to run. So they spin for a few tens of microseconds.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

if TYPE_CHECKING:
    from magictailor.api import Run, load, personalize
    from magictailor.attachments import CSGO, Control, FromImage, Style
    from magictailor.common.errors import InputError, RunError, RunStopped
    from magictailor.data import Pair, read_pair
    from magictailor.exports import Contents, export, inspect
    from magictailor.exports.merging import merge_runs
    from magictailor.generation.images import Generated, Record
    from magictailor.generation.transfer import TransferOptions
    from magictailor.methods import recipe_for
    from magictailor.recipe import Recipe
    from magictailor.training.requests import ask

__version__ = "0.1.0"
__all__ = [
    "CSGO", "Contents", "Control", "FromImage", "Generated", "InputError", "Pair", "Recipe", "Record", "Run", "RunError",
    "RunStopped", "Style", "TransferOptions", "ask", "export", "inspect", "load", "merge_runs", "personalize", "read_pair",
    "recipe_for",
]  # fmt: skip

_MODULES = {
    "attachments": ("CSGO", "Control", "FromImage", "Style"),
    "api": ("Run", "load", "personalize"),
    "common.errors": ("InputError", "RunError", "RunStopped"),
    "data": ("Pair", "read_pair"),
    "exports": ("Contents", "export", "inspect"),
    "exports.merging": ("merge_runs",),
    "generation.images": ("Generated", "Record"),
    "generation.transfer": ("TransferOptions",),
    "methods": ("recipe_for",),
    "recipe": ("Recipe",),
    "training.requests": ("ask",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Names are imported when first used: torch and diffusers take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'magictailor' has no attribute {name!r}")
    return getattr(import_module(f"magictailor.{_HOMES[name]}"), name)
