"""The contract and one file a family."""

from magictailor.backbones.contract import Backbone, Condition, Defaults
from magictailor.backbones.load import load_backbone

__all__ = ["Backbone", "Condition", "Defaults", "load_backbone"]
