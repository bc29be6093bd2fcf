"""The compared methods' recipes from their published numbers."""

from typing import Any

from magictailor.methods.base_defaults import BaseDefaults
from magictailor.recipe import Augment, Data, NoDegradation, Optimisation, Phase, Recipe, Sampling

PUBLISHED_STEPS = 500  # of MagicTailor
NO_AUGMENTATION = Augment(jitter=0, flip=0)


def plain_phase(steps: int, lr: float, **changes: Any) -> Phase:
    """The masked diffusion loss of images as they are; the learning rate is not multiplied by images."""
    return Phase(
        steps=steps, lr=lr, **{"lr_per_image": False, "degradation": NoDegradation(), "attention": None, **changes}
    )


def published(base: BaseDefaults, method: str, *phases: Phase, data: Data, base_steps: int = 0, **parts: Any) -> Recipe:
    """A method with its published rates, steps and photos of a step, adapted to the base.

    Rates are multiplied by the scale that the base's defaults have for the method, which may also have another number of
    photos. A base that gives MagicTailor fewer than its 500 steps gives every method the same share of its own.
    """
    share = sum(base.steps) / PUBLISHED_STEPS
    optimisation: Optimisation = parts.pop("optimisation", Optimisation())
    return Recipe(
        method=method,
        data=data.model_copy(update={"batch": base.batches.get(method, data.batch)}),
        phases=tuple(p.model_copy(update={"steps": max(1, round(p.steps * share))}) for p in phases),
        optimisation=optimisation.model_copy(
            update={"lr_scale": base.lr_scales.get(method, 1.0), "optimizer": base.optimizer}
        ),
        sampling=Sampling(guidance=base.guidance, steps=base.sampling_steps, base_steps=base_steps),
        **parts,
    )
