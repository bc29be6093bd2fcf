"""Custom Diffusion (Kumari 2023): keys and values of cross-attention, images of changing size, prior images."""

from magictailor.methods.base_defaults import BaseDefaults
from magictailor.methods.published import plain_phase, published
from magictailor.recipe import Augment, CrossAttentionWeights, Data, Loss, Prior, Prompts, PseudoWords, Recipe


def custom_diffusion(base: BaseDefaults) -> Recipe:
    """All samples at once, 500 steps of 8 images and 8 prior ones at 1e-4, as in MagicTailor's paper (its own: 8e-5)."""
    return published(
        base,
        "custom-diffusion",
        plain_phase(500, 1e-4),
        train=(CrossAttentionWeights(layers=("to_k", "to_v")), PseudoWords()),
        data=Data(batch=8, augment=Augment(jitter=0, flip=0, scale=True)),
        prompts=Prompts(template="photo of a {}", name="{word} {label}", initial_words=("ktn", "pll", "ucd")),
        loss=Loss(prior=Prior(weight=1, images=200, prompt="photo of a {}", guidance=6, eta=1)),
    )
