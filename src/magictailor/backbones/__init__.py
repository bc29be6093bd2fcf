"""The contract and one file a family."""

from magictailor.backbones.community_lora import CommunityLoRA, community_lora
from magictailor.backbones.contract import Backbone, Condition, Defaults
from magictailor.backbones.load import load_backbone

__all__ = ["Backbone", "CommunityLoRA", "Condition", "Defaults", "community_lora", "load_backbone"]
