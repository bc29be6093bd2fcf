"""MagicTailor (arXiv 2410.13370): degrade what lies outside the mask, then balance concept and component."""

from collections.abc import Mapping
from typing import Any

from magictailor.methods.base_defaults import BaseDefaults
from magictailor.recipe import (
    CrossAttention,
    DMDeg,
    EmbeddingMatrix,
    LoRA,
    Loss,
    NoDegradation,
    Optimisation,
    Phase,
    Preserve,
    Recipe,
    ReferenceQuirks,
    Sampling,
)


def magictailor(base: BaseDefaults) -> Recipe:
    """The paper's equations, with the base's own learning rates, rank, guidance and steps."""
    warm_up = Phase(steps=base.steps[0], lr=base.lr[0], degradation=DMDeg(), attention=CrossAttention())
    balance = warm_up.model_copy(
        update={"steps": base.steps[1], "lr": base.lr[1], "reduce": "max", "preserve": Preserve()}
    )
    return Recipe(
        method="magictailor",
        phases=(warm_up, balance),
        train=base.trained,
        prompts=base.prompts,
        optimisation=Optimisation(optimizer=base.optimizer),
        sampling=Sampling(guidance=base.guidance, steps=base.sampling_steps),
    )


def _changed(recipe: Recipe, method: str, of_phases: Mapping[str, Any] | None = None, **changes: Any) -> Recipe:
    """Under another name, with other fields of every phase and of the recipe."""
    phases = tuple(phase.model_copy(update=of_phases) for phase in recipe.phases)
    return recipe.model_copy(update={"method": method, "phases": phases, **changes})


def magictailor_in_context(base: BaseDefaults) -> Recipe:
    """Not the paper's: a component's prompt names its owner and the close view, as its photos show it.

    CLiC names the owner too; "zoomed in" is Custom Diffusion's prefix (Kumari 2023) for an enlarged image.
    """
    prompts = base.prompts.model_copy(update={"component_template": "zoomed in {concept} with {}"})
    return _changed(magictailor(base), "magictailor-in-context", prompts=prompts)


def magictailor_latent(base: BaseDefaults) -> Recipe:
    """Not the paper's: in context, and DM-Deg adds its noise to the latents, of which none gets into the mask.

    A little more noise, because latents show more of the image through it than pixels do.
    """
    degradation = DMDeg(space="latents", alpha=0.7)
    return _changed(magictailor_in_context(base), "magictailor-latent", {"degradation": degradation})


def magictailor_emphasis(base: BaseDefaults) -> Recipe:
    """Not the paper's: photos are trained as they are, without DM-Deg; guidance separates concept and component.

    See `magictailor.backbones.guidance`.
    """
    recipe = magictailor(base)
    sampling = recipe.sampling.model_copy(update={"emphasis": 1.0})
    return _changed(recipe, "magictailor-emphasis", {"degradation": NoDegradation()}, sampling=sampling)


def magictailor_reference(base: BaseDefaults) -> Recipe:
    """The numerics of the paper's training script, its quirks 1 to 7 included, for comparison."""
    quirks = ReferenceQuirks(
        lr_returns=True, shared_augmentation=True, hard_momentum_start=True, clamp_degraded=True, clip_skips_words=True
    )
    trained = (LoRA(rank=base.rank), EmbeddingMatrix())
    return _changed(magictailor(base), "magictailor-reference", train=trained, loss=Loss(masked="whole"), quirks=quirks)


def plain_lora(base: BaseDefaults) -> Recipe:
    """Neither DM-Deg nor DS-Bal nor masks nor attention loss: what the techniques are compared with."""
    without = {"degradation": NoDegradation(), "reduce": "mean", "attention": None, "preserve": None}
    return _changed(magictailor(base), "plain-lora", without, loss=Loss(masked="off"))
