"""What of a training can be refused by reading a few bytes, before torch is imported and a model is loaded.

Whatever passes here is checked in full later: this only makes the usual mistakes cheap.
"""

from collections.abc import Sequence
from pathlib import Path

from magictailor.backbones.community_lora import community_lora
from magictailor.backbones.sources import check_source, is_folder, local_path, read_index
from magictailor.common.errors import InputError
from magictailor.common.headers import read_header
from magictailor.methods import recipe_for
from magictailor.training.run_folder import START, trained_files

# Families whose recipes have the same keys, by the pipeline's class; several where the class alone does not tell.
FAMILIES = {
    "StableDiffusionPipeline": ("sd1",), "StableDiffusionXLPipeline": ("sdxl",),
    "StableDiffusion3Pipeline": ("sd3", "sd3-clip"), "FluxPipeline": ("flux",), "Flux2Pipeline": ("flux2-dev",),
    "Flux2KleinPipeline": ("flux2-klein-4b",), "ZImagePipeline": ("z-image",), "QwenImagePipeline": ("qwen-image",),
    "SanaPipeline": ("sana",),
}  # fmt: skip
ANY = ("sd1", "flux", "z-image", "embedded")


def _families(model: str) -> tuple[str, ...]:
    """The families that a model may be of."""
    if model == "embedded":
        return ("embedded",)
    if not is_folder(model):
        return ANY
    return FAMILIES.get(read_index(local_path(model))["_class_name"], ANY)


def _check_recipe(model: str, method: str, settings: Sequence[str]) -> None:
    refused: InputError | None = None
    for family in _families(model):
        try:
            recipe_for(family, method, settings)
            return
        except InputError as error:
            refused = refused or error
    if refused is not None:
        raise refused


def check_training(
    model: str, method: str, settings: Sequence[str], loras: Sequence[str], start: Path | str | None
) -> None:
    """Refuse what is wrong with the arguments of a training by themselves.

    Raises:
        InputError: an unknown method or key, a value out of range, a damaged file, a folder without weights.
    """
    check_source(model)
    _check_recipe(model, method, settings)
    for text in loras:
        community_lora(text)
    if start is not None:
        for file in trained_files(start):
            read_header(file, START, field="start")
