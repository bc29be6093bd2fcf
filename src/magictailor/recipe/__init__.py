"""A run is a `Recipe`: plain typed data, JSON in and out. A method returns one, an ablation changes a field."""

from magictailor.recipe.config import ConfigModel
from magictailor.recipe.losses import (
    ContextMask,
    CrossAttention,
    Degradation,
    DMDeg,
    Loss,
    MaskOut,
    NoDegradation,
    Preserve,
    Prior,
    RegionOfInterest,
)
from magictailor.recipe.parts import Augment, Data, Optimisation, Prompts, ReferenceQuirks, Sampling
from magictailor.recipe.recipe import Phase, Recipe
from magictailor.recipe.settings import config_from, recipe_from, with_settings
from magictailor.recipe.trainables import (
    CrossAttentionWeights,
    Denoiser,
    EmbeddingMatrix,
    Kind,
    LoRA,
    PseudoWords,
    TextEncoder,
    Trainable,
)

__all__ = [
    "Augment", "ConfigModel", "ContextMask", "CrossAttention", "CrossAttentionWeights", "DMDeg", "Data", "Degradation",
    "Denoiser", "EmbeddingMatrix", "Kind", "LoRA", "Loss", "MaskOut", "NoDegradation", "Optimisation", "Phase",
    "Preserve", "Prior", "Prompts", "PseudoWords", "Recipe", "ReferenceQuirks", "RegionOfInterest", "Sampling",
    "TextEncoder", "Trainable", "config_from", "recipe_from", "with_settings",
]  # fmt: skip
