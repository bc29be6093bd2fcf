"""The models: one contract, one file per family, and everything that touches a pipeline's parts."""

from magictailor.backbones.community_lora import CommunityLoRA, community_lora
from magictailor.backbones.contract import Backbone, Condition, Prediction
from magictailor.backbones.load import load_backbone
from magictailor.backbones.runtime import RuntimeOptions

__all__ = ["Backbone", "CommunityLoRA", "Condition", "Prediction", "RuntimeOptions", "community_lora", "load_backbone"]
