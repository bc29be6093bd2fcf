"""The models: one contract, one file per family, and everything that touches a pipeline's parts."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from magictailor.backbones.community_lora import CommunityLoRA
    from magictailor.backbones.conditions import Condition, Prediction
    from magictailor.backbones.contract import Backbone
    from magictailor.backbones.load import load_backbone
    from magictailor.backbones.runtime import RuntimeOptions

__all__ = ["Backbone", "CommunityLoRA", "Condition", "Prediction", "RuntimeOptions", "load_backbone"]

_HOMES = {
    "Backbone": "contract", "Condition": "conditions", "Prediction": "conditions", "CommunityLoRA": "community_lora",
    "RuntimeOptions": "runtime", "load_backbone": "load",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Names are imported when first used: a table of names or a file's header needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'magictailor.backbones' has no attribute {name!r}")
    return getattr(import_module(f"magictailor.backbones.{_HOMES[name]}"), name)
