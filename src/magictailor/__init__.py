"""Component-controllable personalization of text-to-image diffusion models.

from magictailor import personalize, load, generate

run = personalize("my_pair", "runs/ada")
for picture in generate(run, "<person> with <hair>, on the beach", number=8):
    picture.image.save(...)
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Read by OpenMP when torch is first imported. Threads that spin for long collapse when cores are shared; threads that
# sleep at once take longer to wake than a small layer takes to run. So they spin for a few tens of microseconds.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

if TYPE_CHECKING:
    from magictailor.common.errors import InputError, RunError
    from magictailor.data import Pair, read_pair
    from magictailor.exports import Contents, export, inspect
    from magictailor.exports.merging import merge_runs
    from magictailor.generation.pictures import Generated, Record, generate, load
    from magictailor.generation.transfer import transfer
    from magictailor.recipe import Recipe
    from magictailor.training.loop import personalize, recipe_for

__version__ = "0.1.0"
__all__ = [
    "Contents",
    "Generated",
    "InputError",
    "Pair",
    "Recipe",
    "Record",
    "RunError",
    "export",
    "generate",
    "inspect",
    "load",
    "merge_runs",
    "personalize",
    "read_pair",
    "recipe_for",
    "transfer",
]

_HOMES = {
    "Contents": "exports",
    "Generated": "generation.pictures",
    "InputError": "common.errors",
    "Pair": "data",
    "Recipe": "recipe",
    "Record": "generation.pictures",
    "RunError": "common.errors",
    "export": "exports",
    "generate": "generation.pictures",
    "inspect": "exports",
    "load": "generation.pictures",
    "merge_runs": "exports.merging",
    "personalize": "training.loop",
    "read_pair": "data",
    "recipe_for": "training.loop",
    "transfer": "generation.transfer",
}


def __getattr__(name: str) -> Any:
    """Names are imported when first used: torch and diffusers take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'magictailor' has no attribute {name!r}")
    return getattr(import_module(f"magictailor.{_HOMES[name]}"), name)
