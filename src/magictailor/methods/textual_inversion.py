"""Textual Inversion (Gal 2022): the pseudo-words' rows alone are learned."""

from magictailor.backbones.contract import Defaults
from magictailor.methods.common import compared, plain_phase
from magictailor.recipe import Augment, PseudoWords, Recipe
from magictailor.recipe.naming import TEMPLATES


def textual_inversion(base: Defaults) -> Recipe:
    """diffusers' script: 3000 steps of 4 pictures at 4 x 5e-4, under 27 templates. Both rows jointly, masked loss."""
    return compared(
        base,
        "textual-inversion",
        plain_phase(3000, 5e-4, lr_per_image=True),
        train=(PseudoWords(),),
        batch=4,
        clip=None,
        templates=TEMPLATES,
        augment=Augment(jitter=0, flip=0.5),
    )
