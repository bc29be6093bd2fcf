"""Break-A-Scene (Avrahami 2023): first the words, then all weights; unions of samples, here from collages."""

from magictailor.backbones.contract import Defaults
from magictailor.methods.common import compared, plain_phase
from magictailor.recipe import (
    Augment,
    CrossAttention,
    Denoiser,
    Prior,
    PseudoWords,
    Recipe,
    TextEncoder,
)


def break_a_scene(base: Defaults) -> Recipe:
    """Its paper: 400 steps at 5e-4, 400 at 2e-6 with a new optimizer; beta2 0.99, decay 1e-8, no prior."""
    attention = CrossAttention(weight=1e-2)
    return compared(
        base,
        "break-a-scene",
        plain_phase(400, 5e-4, train=("pseudo-words",), attention=attention),
        plain_phase(400, 2e-6, new_optimizer=True, attention=attention),
        train=(PseudoWords(), Denoiser(), TextEncoder()),
        batch=1,
        union=True,
        masked="whole",
        augment=Augment(jitter=0, flip=0.5),
        betas=(0.9, 0.99),
        weight_decay=1e-8,
    )


def break_a_scene_official(base: Defaults) -> Recipe:
    """Its code: beta2 0.999, decay 1e-2, 100 prior pictures of a beach."""
    prior = Prior(weight=1, images=100, prompt="a photo at the beach", eta=0)
    update = {"method": "break-a-scene-official", "betas": (0.9, 0.999), "weight_decay": 1e-2, "prior": prior}
    return break_a_scene(base).model_copy(update=update)
