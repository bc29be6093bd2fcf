"""Break-A-Scene (Avrahami 2023): first the words, then all weights; several samples in one image, here a collage."""

from magictailor.methods.base_defaults import BaseDefaults
from magictailor.methods.published import plain_phase, published
from magictailor.recipe import (
    Augment,
    CrossAttention,
    Data,
    Denoiser,
    Loss,
    Optimisation,
    Prior,
    PseudoWords,
    Recipe,
    TextEncoder,
)


def break_a_scene(base: BaseDefaults) -> Recipe:
    """Its paper: 400 steps at 5e-4, 400 at 2e-6 with a new optimizer; beta2 0.99, decay 1e-8, no prior."""
    attention = CrossAttention(weight=1e-2)
    return published(
        base,
        "break-a-scene",
        plain_phase(400, 5e-4, train=("pseudo-words",), attention=attention),
        plain_phase(400, 2e-6, new_optimizer=True, attention=attention),
        train=(PseudoWords(), Denoiser(), TextEncoder()),
        data=Data(batch=1, collage=True, augment=Augment(jitter=0, flip=0.5)),
        loss=Loss(masked="whole"),
        optimisation=Optimisation(betas=(0.9, 0.99), weight_decay=1e-8),
    )


def break_a_scene_official(base: BaseDefaults) -> Recipe:
    """Its code: beta2 0.999, decay 1e-2, 100 prior images of a beach."""
    paper = break_a_scene(base)
    adamw = {"betas": (0.9, 0.999), "weight_decay": 1e-2}
    prior = Prior(weight=1, images=100, prompt="a photo at the beach", eta=0)
    return paper.model_copy(
        update={
            "method": "break-a-scene-official",
            "optimisation": paper.optimisation.model_copy(update=adamw),
            "loss": Loss(masked="whole", prior=prior),
        }
    )
