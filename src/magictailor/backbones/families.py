"""The families: which class wraps which pipeline of diffusers."""

from importlib import import_module
from pathlib import Path
from typing import Any

from magictailor.backbones.sources import is_folder, is_single_file, local_path, read_index, split
from magictailor.common.errors import InputError
from magictailor.common.records import read_json
from magictailor.weights import BASES

CLIP_VOCABULARY = 49_408  # words; the embedded bases have far fewer
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


BY_PIPELINE = {
    "StableDiffusionXLPipeline": "sdxl", "FluxPipeline": "flux", "Flux2Pipeline": "flux2-dev", "ZImagePipeline": "z-image",
    "QwenImagePipeline": "qwen-image", "SanaPipeline": "sana",
}  # fmt: skip


def sd_family(vocabulary: int, activation: str, prediction: str | None) -> str:
    """By CLIP's number of words and activation, which is another in SD 2, and by what the denoiser predicts."""
    if vocabulary < CLIP_VOCABULARY // 2:
        return "embedded"
    if activation == "quick_gelu":
        return "sd1"
    return "sd2-v" if prediction == "v_prediction" else "sd2"


def sd3_family(vocabulary: int | None) -> str:
    """By CLIP's number of words; None: T5 reads the prompts, too."""
    if vocabulary is None:
        return "sd3"
    return "embedded-dit" if vocabulary < CLIP_VOCABULARY // 2 else "sd3-clip"


def klein_family(single_blocks: int) -> str:
    """klein 4B has 20 single blocks, 9B more."""
    return "flux2-klein-4b" if single_blocks <= 20 else "flux2-klein-9b"


def family_on_disk(model: str) -> str | None:
    """The family of a model by its configuration files, without torch; None: not on this disk, or not known.

    Args:
        model: as `load_backbone` takes it.
    """
    if model in BASES:
        return model
    try:
        parts = split(model)
        if parts is not None:  # a transformer in one file, of the family that its other parts are
            return family_on_disk(parts[1])
        if is_single_file(model):
            from magictailor.backbones.single_file import family_of

            return family_of(local_path(model)).family
        folder = local_path(model) if is_folder(model) else _cached(model)
        return None if folder is None else _family_of_folder(folder)
    except (InputError, OSError, ValueError, KeyError, TypeError):
        return None


def _cached(model: str) -> Path | None:
    """The folder of a hub's model, if it has been downloaded."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, "model_index.json")
    return Path(found).parent if isinstance(found, str) else None


def _family_of_folder(folder: Path) -> str | None:
    def config(part: str, name: str = "config.json") -> dict[str, Any]:
        return dict(read_json(folder / part / name, "", finite=False))

    index = read_index(folder)
    kind = index["_class_name"]
    if kind == "StableDiffusionPipeline":
        text, noise = config("text_encoder"), config("scheduler", "scheduler_config.json")
        return sd_family(text["vocab_size"], text.get("hidden_act", "quick_gelu"), noise.get("prediction_type"))
    if kind == "StableDiffusion3Pipeline":
        t5 = index.get("text_encoder_3") != [None, None]
        return sd3_family(None if t5 else config("text_encoder")["vocab_size"])
    if kind == "Flux2KleinPipeline":
        return klein_family(config("transformer")["num_single_layers"])
    return BY_PIPELINE.get(kind)
