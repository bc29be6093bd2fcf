"""MagicTailor (arXiv 2410.13370): degrade what lies outside the mask, then balance concept and component."""

from magictailor.backbones.contract import Defaults
from magictailor.recipe import (
    Augment,
    CrossAttention,
    DMDeg,
    EmbeddingMatrix,
    LoRA,
    Phase,
    Preserve,
    PseudoWords,
    Recipe,
    Reference,
    Untouched,
)


def magictailor(base: Defaults) -> Recipe:
    """The paper's intent, with the base's own rates, rank, guidance and steps."""
    warm_up = Phase(steps=base.steps[0], lr=base.lr[0], degradation=DMDeg(), attention=CrossAttention())
    balance = warm_up.model_copy(
        update={"steps": base.steps[1], "lr": base.lr[1], "reduce": "max", "preserve": Preserve()}
    )
    return Recipe(
        method="magictailor",
        phases=(warm_up, balance),
        train=(LoRA(rank=base.rank), PseudoWords(rate=base.word_rate)),
        guidance=base.guidance,
        sampling_steps=base.sampling_steps,
    )


def magictailor_in_context(base: Defaults) -> Recipe:
    """Not the paper's: a component's prompt says what its photos show, a close view of such a thing with it.

    CLiC names the owner too; "zoomed in" is what Custom Diffusion (Kumari 2023) calls an enlarged picture.
    """
    return magictailor(base).model_copy(
        update={"method": "magictailor-in-context", "component_prompt": "zoomed in {concept} with {}"}
    )


def magictailor_reference(base: Defaults) -> Recipe:
    """The numerics of the reference's training script, its defects 1-7 included, for comparison."""
    recipe = magictailor(base)
    phases = tuple(p.model_copy(update={"degradation": DMDeg(clamp=True)}) for p in recipe.phases)
    return recipe.model_copy(
        update={
            "method": "magictailor-reference",
            "phases": phases,
            "train": (LoRA(rank=base.rank), EmbeddingMatrix()),
            "augment": Augment(shared=True),
            "masked": "whole",
            "reference": Reference(rate_returns=True, hard_start=True, clip_skips_words=True),
        }
    )


def plain_lora(base: Defaults) -> Recipe:
    """Neither DM-Deg nor DS-Bal nor masks nor attention loss: what the techniques are compared with."""
    recipe = magictailor(base)
    update = {"degradation": Untouched(), "reduce": "mean", "attention": None, "preserve": None}
    phases = tuple(p.model_copy(update=update) for p in recipe.phases)
    return recipe.model_copy(update={"method": "plain-lora", "phases": phases, "masked": "off"})
