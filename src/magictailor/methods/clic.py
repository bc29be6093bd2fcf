"""CLiC (Safaee 2024): a component as a style of its owner, seen in its context and alone."""

from magictailor.backbones.contract import Defaults
from magictailor.methods.common import AS_IT_IS, compared, plain_phase
from magictailor.recipe import (
    Augment,
    ContextMask,
    CrossAttention,
    CrossAttentionWeights,
    PseudoWords,
    Recipe,
    RegionOfInterest,
)


def clic(base: Defaults) -> Recipe:
    """Its paper: l_con + 0.5 l_att + 0.5 l_RoI, 500 steps by Adam, at the 5e-5 of MagicTailor's paper (1e-5 by its own)."""
    return compared(
        base,
        "clic",
        plain_phase(
            500,
            5e-5,
            attention=CrossAttention(weight=0.5, blocks="up", normalised=False),
            region=RegionOfInterest(weight=0.5),
        ),
        train=(CrossAttentionWeights(layers=("to_q", "to_k", "to_v", "to_out.0")), PseudoWords()),
        batch=1,
        component_prompt="a {concept} with {}",
        component_called="{word} style",
        masked="whole",
        context=ContextMask(kind="blend", value=0.5),
        augment=AS_IT_IS,
        weight_decay=0,
        base_steps=base.sampling_steps // 10,
    )


def clic_official(base: Defaults) -> Recipe:
    """Its code, as far as it is known here: the context counts 0.25, pixels are masked, decay 0.1, brightness changes."""
    paper = clic(base)
    phase = paper.phases[0].model_copy(update={"region": RegionOfInterest(weight=0.5, masked="pixels")})
    return paper.model_copy(
        update={
            "method": "clic-official",
            "phases": (phase,),
            "context": ContextMask(kind="floor", value=0.25),
            "augment": Augment(jitter=0.5, brightness_alone=True, flip=0),
            "weight_decay": 0.1,
        }
    )
