"""Textual Inversion (Gal 2022): only the embedding rows of the pseudo-words are learned."""

from magictailor.methods.base_defaults import BaseDefaults
from magictailor.methods.prompt_words import TEMPLATES
from magictailor.methods.published import plain_phase, published
from magictailor.recipe import Augment, Data, Optimisation, Prompts, PseudoWords, Recipe


def textual_inversion(base: BaseDefaults) -> Recipe:
    """diffusers' script: 3000 steps of 4 images at 4 x 5e-4, with 27 templates. All words at once, masked loss."""
    return published(
        base,
        "textual-inversion",
        plain_phase(3000, 5e-4, lr_per_image=True),
        train=(PseudoWords(),),
        data=Data(batch=4, augment=Augment(jitter=0, flip=0.5)),
        prompts=Prompts(templates=TEMPLATES),
        optimisation=Optimisation(max_grad_norm=None),
    )
