"""What the compared methods share: the base's way of drawing, and the masked loss without any technique."""

from typing import Any

from magictailor.backbones.contract import Defaults
from magictailor.recipe import Augment, Phase, Recipe, Untouched

PUBLISHED_STEPS = 500  # of MagicTailor
AS_IT_IS = Augment(jitter=0, flip=0)


def plain_phase(steps: int, lr: float, **more: Any) -> Phase:
    """Masked diffusion loss of untouched pictures; the rate is not multiplied by images."""
    return Phase(steps=steps, lr=lr, **{"lr_per_image": False, "degradation": Untouched(), "attention": None, **more})


def compared(base: Defaults, method: str, *phases: Phase, **more: Any) -> Recipe:
    """A method with its published rates, times what the search found for this base, and its published steps, as many of
    them as MagicTailor has of its own 500 there."""
    share = sum(base.steps) / PUBLISHED_STEPS
    return Recipe(
        method=method,
        phases=tuple(p.model_copy(update={"steps": max(1, round(p.steps * share))}) for p in phases),
        rate_factor=base.rate_factors.get(method, 1.0),
        guidance=base.guidance,
        sampling_steps=base.sampling_steps,
        **more,
    )
