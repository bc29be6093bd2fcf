"""Which pipeline of diffusers can do what, by the family's own pipeline."""

from collections.abc import Set
from typing import Any

from magictailor.attachments.contract import Role
from magictailor.common.errors import InputError

# Of each family: the class for a set of roles. Style changes no class.
PIPELINES: dict[str, dict[str, str]] = {
    "StableDiffusionPipeline": {
        "": "StableDiffusionPipeline",
        "image": "StableDiffusionImg2ImgPipeline",
        "image region": "StableDiffusionInpaintPipeline",
        "control": "StableDiffusionControlNetPipeline",
        "control image": "StableDiffusionControlNetImg2ImgPipeline",
        "control image region": "StableDiffusionControlNetInpaintPipeline",
    },
    "StableDiffusionXLPipeline": {
        "": "StableDiffusionXLPipeline",
        "image": "StableDiffusionXLImg2ImgPipeline",
        "image region": "StableDiffusionXLInpaintPipeline",
        "control": "StableDiffusionXLControlNetPipeline",
        "control image": "StableDiffusionXLControlNetImg2ImgPipeline",
        "control image region": "StableDiffusionXLControlNetInpaintPipeline",
        "control union": "StableDiffusionXLControlNetUnionPipeline",
        "control image union": "StableDiffusionXLControlNetUnionImg2ImgPipeline",
        "control image region union": "StableDiffusionXLControlNetUnionInpaintPipeline",
    },
    "StableDiffusion3Pipeline": {
        "": "StableDiffusion3Pipeline",
        "image": "StableDiffusion3Img2ImgPipeline",
        "image region": "StableDiffusion3InpaintPipeline",
        "control": "StableDiffusion3ControlNetPipeline",
    },
    "FluxPipeline": {
        "": "FluxPipeline",
        "image": "FluxImg2ImgPipeline",
        "image region": "FluxInpaintPipeline",
        "control": "FluxControlNetPipeline",
        "control image": "FluxControlNetImg2ImgPipeline",
        "control image region": "FluxControlNetInpaintPipeline",
    },
    "Flux2KleinPipeline": {
        "image": "Flux2KleinInpaintPipeline",  # with a region of everything
        "image region": "Flux2KleinInpaintPipeline",
    },
    "QwenImagePipeline": {
        "image": "QwenImageImg2ImgPipeline",
        "image region": "QwenImageInpaintPipeline",
        "control": "QwenImageControlNetPipeline",
    },
    "ZImagePipeline": {
        "image": "ZImageImg2ImgPipeline",
        "image region": "ZImageInpaintPipeline",
        "control": "ZImageControlNetPipeline",
    },
    "SanaPipeline": {"control": "SanaControlNetPipeline"},
}

# Pipelines that take one picture at a time: the first draws random numbers for the map that no seed decides, the others
# do not repeat a union model's mode.
ONE_AT_A_TIME = (
    "StableDiffusion3ControlNetPipeline",
    "FluxControlNetImg2ImgPipeline",
    "FluxControlNetInpaintPipeline",
)
SEVERAL_MAPS = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline")


def pipeline_class(own: str, roles: Set[Role], family: str) -> Any:
    """The class of diffusers for these roles.

    Args:
        own: the class of the family's own pipeline, by name.

    Raises:
        InputError: diffusers has none.
    """
    import diffusers

    known = PIPELINES.get(own, {})
    wanted = " ".join(sorted(roles - {"style"}))
    if wanted not in known:
        asked = " and ".join(sorted(roles - {"union"}))
        possible = ", ".join(sorted(" with ".join(k.split()) for k in known if k and "union" not in k)) or "nothing"
        raise InputError(f"{asked}: diffusers has no pipeline for it on {family}", f"there it has {possible}")
    return getattr(diffusers, known[wanted])
