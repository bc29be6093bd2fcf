"""DreamBooth (Ruiz 2023) on a LoRA: a rare word next to the label, and images of the class from the untrained base."""

from magictailor.methods.base_defaults import BaseDefaults
from magictailor.methods.prompt_words import RARE
from magictailor.methods.published import NO_AUGMENTATION, plain_phase, published
from magictailor.recipe import Data, LoRA, Loss, Prior, Prompts, Recipe


def dreambooth(base: BaseDefaults) -> Recipe:
    """diffusers' LoRA script: rank 4 on attention, 500 steps of one image at 1e-4. No word is learned."""
    return published(
        base,
        "dreambooth",
        plain_phase(500, 1e-4),
        train=(LoRA(rank=4, layers="attention"),),
        data=Data(batch=1, augment=NO_AUGMENTATION),
        prompts=Prompts(name="{word} {label}", initial_words=RARE),
        loss=Loss(prior=Prior(weight=1, images=200, prompt="a photo of a {}")),
    )
