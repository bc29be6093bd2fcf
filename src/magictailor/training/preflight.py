"""What of a training can be refused by reading a few bytes, before torch is imported and a model is loaded.

Whatever passes here is checked in full later: this only makes the usual mistakes cheap.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from magictailor.backbones.community_lora import community_lora
from magictailor.common.errors import InputError
from magictailor.common.headers import read_header
from magictailor.common.records import read_json
from magictailor.methods import recipe_for

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
    path = Path(model).expanduser()
    if os.path.isfile(path) and path.suffix == ".safetensors":
        read_header(path, "download it again", field="model")
        return ANY
    index = path / "model_index.json"
    if not os.path.isfile(index):
        return ANY
    tree = read_json(index, "download the model again", field="model")
    kind = tree.get("_class_name") if isinstance(tree, dict) else None
    return FAMILIES.get(kind, ANY) if isinstance(kind, str) else ANY


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
    try:
        _check_recipe(model, method, settings)
    except RuntimeError as error:  # ~nobody
        raise InputError(f"{model}: {error}", "write the whole path", field="model") from error
    for text in loras:
        community_lora(text)
    if start is not None:
        path = os.path.abspath(os.path.expanduser(start))
        files = list(Path(path).glob("*.safetensors")) if os.path.isdir(path) else []
        for file in files:
            read_header(file, "name a finished run or an exported folder", field="start")
