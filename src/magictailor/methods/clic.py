"""CLiC (Safaee 2024): a component as a style of its owner, trained in its context and alone."""

from magictailor.methods.base_defaults import BaseDefaults
from magictailor.methods.published import NO_AUGMENTATION, plain_phase, published
from magictailor.recipe import (
    Augment,
    ContextMask,
    CrossAttention,
    CrossAttentionWeights,
    Data,
    Loss,
    Optimisation,
    Prompts,
    PseudoWords,
    Recipe,
    RegionOfInterest,
)


def clic(base: BaseDefaults) -> Recipe:
    """Its paper: l_con + 0.5 l_att + 0.5 l_RoI, 500 steps of Adam at 5e-5, as in MagicTailor's paper (its own: 1e-5)."""
    return published(
        base,
        "clic",
        plain_phase(
            500,
            5e-5,
            attention=CrossAttention(weight=0.5, blocks="up", normalised=False),
            region=RegionOfInterest(weight=0.5),
        ),
        train=(CrossAttentionWeights(layers=("to_q", "to_k", "to_v", "to_out.0")), PseudoWords()),
        data=Data(batch=1, augment=NO_AUGMENTATION),
        prompts=Prompts(component_template="a {concept} with {}", component_name="{word} style"),
        loss=Loss(masked="whole", context_mask=ContextMask(kind="blend", value=0.5)),
        optimisation=Optimisation(weight_decay=0),
        base_steps=base.sampling_steps // 10,
    )


def clic_official(base: BaseDefaults) -> Recipe:
    """Its code, as far as it is known here: context weight 0.25, masked pixels, decay 0.1, brightness changes."""
    paper = clic(base)
    phase = paper.phases[0].model_copy(update={"region": RegionOfInterest(weight=0.5, masked="pixels")})
    return paper.model_copy(
        update={
            "method": "clic-official",
            "phases": (phase,),
            "data": Data(batch=1, augment=Augment(jitter=0.5, only_brightness=True, flip=0)),
            "loss": Loss(masked="whole", context_mask=ContextMask(kind="floor", value=0.25)),
            "optimisation": paper.optimisation.model_copy(update={"weight_decay": 0.1}),
        }
    )
