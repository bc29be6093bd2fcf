"""The families: which class wraps which pipeline of diffusers."""

from importlib import import_module
from typing import Any

CLASSES = {
    "StableDiffusionPipeline": "stable_diffusion.StableDiffusion",
    "StableDiffusionXLPipeline": "sdxl.StableDiffusionXL",
    "StableDiffusion3Pipeline": "sd3.StableDiffusion3",
    "FluxPipeline": "flux.Flux",
    "Flux2KleinPipeline": "flux2.Flux2Klein",
    "Flux2Pipeline": "flux2.Flux2",
    "ZImagePipeline": "z_image.ZImage",
    "QwenImagePipeline": "qwen_image.QwenImage",
    "SanaPipeline": "sana.Sana",
}


def backbone_class(pipeline: str) -> Any:
    """The class for a pipeline's class, by name; imported only now."""
    module, name = CLASSES[pipeline].split(".")
    return getattr(import_module(f"magictailor.backbones.{module}"), name)
