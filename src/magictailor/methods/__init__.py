"""The methods: each a function from the base's defaults to a recipe, and the line that `magictailor recipes` prints.

A new method is one more file here, and one more line below.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from magictailor.common.errors import InputError
from magictailor.methods.ablations import ABLATIONS
from magictailor.methods.base_defaults import BaseDefaults, defaults_for
from magictailor.methods.break_a_scene import break_a_scene, break_a_scene_official
from magictailor.methods.clic import clic, clic_official
from magictailor.methods.custom_diffusion import custom_diffusion
from magictailor.methods.dreambooth import dreambooth
from magictailor.methods.magictailor import (
    magictailor,
    magictailor_emphasis,
    magictailor_in_context,
    magictailor_latent,
    magictailor_reference,
    plain_lora,
)
from magictailor.methods.textual_inversion import textual_inversion
from magictailor.recipe import Recipe, with_settings


@dataclass(frozen=True)
class Method:
    """``published``: CLIP-T / CLIP-I / DINO / DreamSim (up, up, up, down), as the paper prints them."""

    make: Callable[[BaseDefaults], Recipe]
    summary: str
    published: str = ""


REFERENCE_ONLY = "reference-only"  # the rival without training, see generation/reference_only.py: no recipe

COMPARED: dict[str, Method] = {
    "textual-inversion": Method(
        textual_inversion, "only the embeddings of the pseudo-words", ".236 / .742 / .620 / .558"
    ),
    "dreambooth": Method(dreambooth, "a LoRA, rare words, prior images of the class", ".266 / .841 / .798 / .323"),
    "custom-diffusion": Method(
        custom_diffusion, "keys and values of cross-attention, prior images", ".251 / .797 / .750 / .407"
    ),
    "break-a-scene": Method(
        break_a_scene, "first the words, then all weights; several samples in a collage", ".259 / .840 / .780 / .338"
    ),
    "clic": Method(clic, "cross-attention; a component is its owner's style", ".263 / .764 / .663 / .499"),
    "magictailor": Method(magictailor, "DM-Deg and DS-Bal on a LoRA", ".270 / .854 / .813 / .279"),
}
VARIANTS: dict[str, Method] = {
    "break-a-scene-official": Method(break_a_scene_official, "Break-A-Scene as in its code: with prior images"),
    "clic-official": Method(clic_official, "CLiC as in its code: masked pixels, brightness changes"),
    "magictailor-emphasis": Method(
        magictailor_emphasis, "no noise in training, emphasis of components in images; not the paper's"
    ),
    "magictailor-in-context": Method(
        magictailor_in_context, "a component's prompt names its owner and the close view; not the paper's"
    ),
    "magictailor-latent": Method(
        magictailor_latent,
        "a component's prompt as in magictailor-in-context, and DM-Deg in the latents, where no noise gets into the mask; "
        "not the paper's",
    ),
    "magictailor-reference": Method(
        magictailor_reference, "the numerics of the paper's training script, quirks included"
    ),
    "plain-lora": Method(plain_lora, "no masks, none of the techniques"),
}
CATALOGUE: dict[str, dict[str, Method]] = {
    "methods": COMPARED,
    "variants": VARIANTS,
    "ablations": {
        name: Method(ablation.of(name), ablation.summary, ablation.published) for name, ablation in ABLATIONS.items()
    },
}
ENTRIES: dict[str, Method] = {name: entry for group in CATALOGUE.values() for name, entry in group.items()}
METHODS: dict[str, Callable[[BaseDefaults], Recipe]] = {name: entry.make for name, entry in ENTRIES.items()}


def recipe_for(family: str, method: str = "magictailor", settings: Sequence[str] = ()) -> Recipe:
    """The method's recipe on a base of this family, with ``key=value`` settings.

    Raises:
        InputError: unknown method or key, value out of range.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, 1, 0.3) or ["magictailor"]
        raise InputError(
            f"{method}: unknown; the nearest is {near[0]}",
            f"the methods are {', '.join(COMPARED)} (`magictailor recipes` lists variants and ablations as well)",
            field="method",
        )
    return with_settings(METHODS[method](defaults_for(family)), list(settings))
