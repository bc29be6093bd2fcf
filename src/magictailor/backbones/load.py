"""From a model's name to its backbone."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from magictailor.backbones.community import CommunityLoRA, merge
from magictailor.backbones.contract import Backbone, Defaults
from magictailor.errors import InputError
from magictailor.progress import quiet_loading

# Rank and rates from a small search on other pairs than the reported ones (docs/status.md).
EMBEDDED = Defaults(steps=(120, 180), lr=(1e-4, 1e-4), rank=4, guidance=4.0, sampling_steps=25, word_rate=3.0)
PAPER = Defaults(steps=(200, 300), lr=(1e-4, 1e-5), rank=32, guidance=7.5, sampling_steps=50)


def _with_loras(backbone: Backbone, loras: Sequence[CommunityLoRA]) -> Backbone:
    merge(backbone.pipeline, loras)
    backbone.loras = tuple(loras)
    return backbone


def _class_name(folder: str) -> str:
    """The pipeline's class, by the folder's own word."""
    try:
        name = json.loads(Path(folder, "model_index.json").read_text("utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--model {folder}: its model_index.json is damaged; download the model again") from error
    return str(name)


def load_backbone(model: str = "embedded", loras: Sequence[CommunityLoRA] = ()) -> Backbone:
    """``embedded``, or a folder that holds Stable Diffusion 1.x, 2.x or SDXL in diffusers format, with ``loras`` merged in.

    Raises:
        InputError: no such model, or a LoRA that does not fit it; the line says what is known.
    """
    # Importing diffusers' pipelines takes seconds: only when a model is really loaded.
    import torch
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    from magictailor.backbones.sdxl import StableDiffusionXL
    from magictailor.backbones.stable_diffusion import StableDiffusion
    from magictailor.world.embedded import load_embedded

    quiet_loading()
    if model == "embedded":
        return _with_loras(StableDiffusion(model, load_embedded(), EMBEDDED), loras)
    if not os.path.isfile(os.path.join(model, "model_index.json")):  # False, too, for a name that no path can have
        raise InputError(f"--model {model}: not 'embedded' and not a diffusers folder (no model_index.json there)")
    families: dict[str, tuple[type[StableDiffusion], Any]] = {
        "StableDiffusionPipeline": (StableDiffusion, StableDiffusionPipeline),
        "StableDiffusionXLPipeline": (StableDiffusionXL, StableDiffusionXLPipeline),
    }
    name = _class_name(model)
    if name not in families:
        raise InputError(f"--model {model}: a {name}; what is known are {', '.join(families)}")
    family, kind = families[name]
    try:
        pipeline = kind.from_pretrained(model, dtype=torch.float32, local_files_only=True, use_safetensors=True)
        return _with_loras(family(str(Path(model).resolve()), pipeline, PAPER), loras)
    except InputError:
        raise
    except Exception as error:  # on a damaged folder the libraries raise nearly anything
        raise InputError(
            f"--model {model}: not a whole {name} with safetensors "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); download it again"
        ) from error
