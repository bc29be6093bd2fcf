"""Custom Diffusion (Kumari 2023): keys and values of cross-attention, pictures of changing size, prior pictures."""

from magictailor.backbones.contract import Defaults
from magictailor.methods.common import compared, plain_phase
from magictailor.recipe import Augment, CrossAttentionWeights, Prior, PseudoWords, Recipe


def custom_diffusion(base: Defaults) -> Recipe:
    """Jointly, 500 steps of 8 pictures and 8 prior ones, at the 1e-4 of MagicTailor's paper (8e-5 by its own)."""
    return compared(
        base,
        "custom-diffusion",
        plain_phase(500, 1e-4),
        train=(CrossAttentionWeights(layers=("to_k", "to_v")), PseudoWords()),
        batch=8,
        rare_words=("ktn", "pll", "ucd"),
        prompt="photo of a {}",
        called="{word} {label}",
        augment=Augment(jitter=0, flip=0, scale=True),
        prior=Prior(weight=1, images=200, prompt="photo of a {}", guidance=6, eta=1),
    )
