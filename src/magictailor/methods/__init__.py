"""The methods: each a function from a backbone's defaults to a recipe, and what `magictailor recipes` says of it.

Another one is a file beside these and a line here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from magictailor.backbones.contract import Defaults
from magictailor.methods.ablations import ABLATIONS
from magictailor.methods.break_a_scene import break_a_scene, break_a_scene_official
from magictailor.methods.clic import clic, clic_official
from magictailor.methods.custom_diffusion import custom_diffusion
from magictailor.methods.dreambooth import dreambooth
from magictailor.methods.magictailor import (
    magictailor,
    magictailor_in_context,
    magictailor_reference,
    plain_lora,
)
from magictailor.methods.textual_inversion import textual_inversion
from magictailor.recipe import Recipe


@dataclass(frozen=True)
class Named:
    """``published``: CLIP-T / CLIP-I / DINO / DreamSim (up, up, up, down), as the paper prints them."""

    make: Callable[[Defaults], Recipe]
    summary: str
    published: str = ""


COMPARED: dict[str, Named] = {
    "textual-inversion": Named(textual_inversion, "the words' rows alone", ".236 / .742 / .620 / .558"),
    "dreambooth": Named(dreambooth, "a LoRA, rare words, prior pictures of the class", ".266 / .841 / .798 / .323"),
    "custom-diffusion": Named(
        custom_diffusion, "keys and values of cross-attention, prior pictures", ".251 / .797 / .750 / .407"
    ),
    "break-a-scene": Named(
        break_a_scene, "first the words, then all weights; unions in collages", ".259 / .840 / .780 / .338"
    ),
    "clic": Named(clic, "cross-attention, a component as its owner's style", ".263 / .764 / .663 / .499"),
    "magictailor": Named(magictailor, "DM-Deg and DS-Bal on a LoRA", ".270 / .854 / .813 / .279"),
}
VARIANTS: dict[str, Named] = {
    "break-a-scene-official": Named(break_a_scene_official, "by its code: with prior pictures"),
    "clic-official": Named(clic_official, "by its code: pixels masked, brightness changed"),
    "magictailor-in-context": Named(magictailor_in_context, "components named as worn and close up; not the paper's"),
    "magictailor-reference": Named(magictailor_reference, "the reference script's numerics, its defects included"),
    "plain-lora": Named(plain_lora, "no masks and none of the techniques"),
}
CATALOGUE: dict[str, dict[str, Named]] = {
    "methods": COMPARED,
    "variants": VARIANTS,
    "ablations": {name: Named(how.of(name), how.summary, how.published) for name, how in ABLATIONS.items()},
}
METHODS: dict[str, Callable[[Defaults], Recipe]] = {
    name: named.make for group in CATALOGUE.values() for name, named in group.items()
}
