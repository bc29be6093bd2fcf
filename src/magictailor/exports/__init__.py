"""Exports of a run to other tools: one LoRA representation, and a table of names for each tool."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from magictailor.exports.checks import FORMATS
    from magictailor.exports.inspection import Contents, inspect
    from magictailor.exports.writing import export

__all__ = ["FORMATS", "Contents", "export", "inspect"]


def __getattr__(name: str) -> Any:
    """Names are imported when first used: inspection needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'magictailor.exports' has no attribute {name!r}")
    home = {"FORMATS": "checks", "export": "writing"}.get(name, "inspection")
    return getattr(import_module(f"magictailor.exports.{home}"), name)
