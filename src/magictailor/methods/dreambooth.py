"""DreamBooth (Ruiz 2023) on a LoRA: a rare word beside the label, and pictures of the class that the base drew."""

from magictailor.backbones.contract import Defaults
from magictailor.methods.common import AS_IT_IS, compared, plain_phase
from magictailor.recipe import LoRA, Prior, Recipe
from magictailor.recipe.naming import RARE


def dreambooth(base: Defaults) -> Recipe:
    """diffusers' LoRA script: rank 4 on attention, 500 steps of one picture at 1e-4. No word is learned."""
    return compared(
        base,
        "dreambooth",
        plain_phase(500, 1e-4),
        train=(LoRA(rank=4, layers="attention"),),
        batch=1,
        rare_words=RARE,
        called="{word} {label}",
        augment=AS_IT_IS,
        prior=Prior(weight=1, images=200, prompt="a photo of a {}"),
    )
