"""A run is a `Recipe`: plain typed data, JSON in and out. Methods return one, ablations change a field."""

from magictailor.recipe.losses import (
    ContextMask,
    CrossAttention,
    Degradation,
    DMDeg,
    MaskOut,
    Preserve,
    Prior,
    RegionOfInterest,
    Untouched,
)
from magictailor.recipe.part import Part, fields_of
from magictailor.recipe.recipe import Augment, Phase, Recipe, Reference
from magictailor.recipe.settings import part_from, recipe_from, with_settings
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
    "Augment",
    "ContextMask",
    "CrossAttention",
    "CrossAttentionWeights",
    "DMDeg",
    "Degradation",
    "Denoiser",
    "EmbeddingMatrix",
    "Kind",
    "LoRA",
    "MaskOut",
    "Part",
    "Phase",
    "Preserve",
    "Prior",
    "PseudoWords",
    "Recipe",
    "Reference",
    "RegionOfInterest",
    "TextEncoder",
    "Trainable",
    "Untouched",
    "fields_of",
    "part_from",
    "recipe_from",
    "with_settings",
]
