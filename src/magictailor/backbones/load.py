"""From a model's name to its backbone."""

import os
from collections.abc import Sequence
from pathlib import Path

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


def load_backbone(model: str = "embedded", loras: Sequence[CommunityLoRA] = ()) -> Backbone:
    """``embedded``, or a folder that holds a `StableDiffusionPipeline` in diffusers format, with ``loras`` merged in.

    Raises:
        InputError: no such model, or a LoRA that does not fit it; the line says what is known.
    """
    # Importing diffusers' pipelines takes seconds: only when a model is really loaded.
    import torch
    from diffusers import StableDiffusionPipeline

    from magictailor.backbones.stable_diffusion import StableDiffusion
    from magictailor.world.embedded import load_embedded

    quiet_loading()
    if model == "embedded":
        return _with_loras(StableDiffusion(model, load_embedded(), EMBEDDED), loras)
    if not os.path.isfile(os.path.join(model, "model_index.json")):  # False, too, for a name that no path can have
        raise InputError(f"--model {model}: not 'embedded' and not a diffusers folder (no model_index.json there)")
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            model, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
        return _with_loras(StableDiffusion(str(Path(model).resolve()), pipeline, PAPER), loras)
    except InputError:
        raise
    except Exception as error:  # on a damaged folder the libraries raise nearly anything
        raise InputError(
            f"--model {model}: not a whole Stable Diffusion 1.x / 2.x folder with safetensors "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); download it again"
        ) from error
