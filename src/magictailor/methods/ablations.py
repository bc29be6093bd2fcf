"""The paper's ablations: MagicTailor with one setting changed, and the numbers that the paper prints for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from magictailor.methods.base_defaults import BaseDefaults
from magictailor.methods.magictailor import magictailor
from magictailor.recipe import CrossAttention, Data, DMDeg, MaskOut, NoDegradation, Phase, Preserve, Recipe


@dataclass(frozen=True)
class Ablation:
    """``published``: CLIP-T / CLIP-I / DINO / DreamSim; empty where the paper only has a plot.

    ``phase`` replaces fields of every phase, ``preserve`` and ``attention`` those terms where a phase has them, ``references``
    the number of reference images.
    """

    summary: str
    published: str = ""
    phase: Mapping[str, Any] = field(default_factory=dict)
    preserve: Preserve | None = None
    attention: CrossAttention | None = None
    references: int | None = None

    def changed(self, phase: Phase) -> Phase:
        update = dict(self.phase)
        if self.preserve is not None and phase.preserve is not None:
            update["preserve"] = self.preserve
        if self.attention is not None and phase.attention is not None:
            update["attention"] = self.attention
        return phase.model_copy(update=update)

    def of(self, name: str) -> Callable[[BaseDefaults], Recipe]:
        """The function that makes the recipe of this name."""

        def make(base: BaseDefaults) -> Recipe:
            whole = magictailor(base)
            phases = tuple(map(self.changed, whole.phases))
            return whole.model_copy(update={"method": name, "phases": phases, "data": Data(references=self.references)})

        return make


def _intensity(**schedule: Any) -> dict[str, Any]:
    return {"degradation": DMDeg(**schedule)}


NO_BALANCE = {"reduce": "mean", "preserve": None}
ABLATIONS: dict[str, Ablation] = {
    # table 3
    "without-dm-deg": Ablation(
        "DS-Bal only: images as they are", ".270 / .845 / .802 / .304", {"degradation": NoDegradation()}
    ),
    "without-ds-bal": Ablation("DM-Deg only: the warm-up's loss to the end", ".276 / .848 / .809 / .294", NO_BALANCE),
    "without-both": Ablation(
        "neither DM-Deg nor DS-Bal", ".275 / .837 / .798 / .317", {"degradation": NoDegradation(), **NO_BALANCE}
    ),
    # table 5
    "mask-out": Ablation("grey outside the mask", ".270 / .818 / .760 / .375", {"degradation": MaskOut()}),
    "fixed-0.4": Ablation(
        "noise intensity fixed at 0.4", ".270 / .849 / .800 / .297", _intensity(schedule="fixed", alpha=0.4)
    ),
    "fixed-0.5": Ablation("noise intensity fixed at 0.5 (figure 4)", "", _intensity(schedule="fixed", alpha=0.5)),
    "fixed-0.6": Ablation(
        "noise intensity fixed at 0.6", ".271 / .845 / .794 / .310", _intensity(schedule="fixed", alpha=0.6)
    ),
    "fixed-0.8": Ablation(
        "noise intensity fixed at 0.8", ".271 / .846 / .796 / .305", _intensity(schedule="fixed", alpha=0.8)
    ),
    "ascending": Ablation("noise grows linearly", ".270 / .846 / .797 / .307", _intensity(schedule="ascending")),
    "descending": Ablation("noise fades linearly", ".261 / .851 / .802 / .300", _intensity(schedule="descending")),
    "gamma-8": Ablation(
        "noise fades over the last third of training (gamma 8)", ".266 / .850 / .806 / .289", _intensity(gamma=8)
    ),
    "gamma-16": Ablation(
        "noise fades over the last fifth of training (gamma 16)", ".268 / .854 / .813 / .282", _intensity(gamma=16)
    ),
    "gamma-64": Ablation(
        "noise fades over the last twentieth of training (gamma 64)", ".271 / .852 / .812 / .283", _intensity(gamma=64)
    ),
    # table 6
    "frozen": Ablation(
        "what is preserved: the network after the warm-up",
        ".268 / .850 / .803 / .293",
        preserve=Preserve(regulariser="frozen"),
    ),
    "last-step": Ablation(
        "what is preserved: the network one step ago",
        ".270 / .851 / .808 / .286",
        preserve=Preserve(regulariser="last-step"),
    ),
    "decay-0.5": Ablation(
        "what is preserved: an average over two steps (decay 0.5)",
        ".268 / .850 / .805 / .290",
        preserve=Preserve(decay=0.5),
    ),
    "decay-0.9": Ablation(
        "what is preserved: an average over ten steps (decay 0.9)",
        ".269 / .850 / .808 / .288",
        preserve=Preserve(decay=0.9),
    ),
    # table 7: the learning rates stay as they were, so that only the loss differs
    "no-warm-up": Ablation(
        "DS-Bal from the first step", ".272 / .844 / .793 / .320", {"reduce": "max", "preserve": Preserve()}
    ),
    # figure 8
    **{
        f"pres-{weight:g}": Ablation(f"lambda_pres {weight:g}", preserve=Preserve(weight=weight))
        for weight in (0.4, 0.6, 0.8, 1.0)
    },
    **{
        f"attn-{weight:g}": Ablation(f"lambda_attn {weight:g}", attention=CrossAttention(weight=weight))
        for weight in (0.001, 0.005, 0.05)
    },
    # figure 9
    "references-1": Ablation("the first reference image of each sample", references=1),
    "references-2": Ablation("the first two reference images of each sample", references=2),
}
