"""From a model's name to its backbone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from magictailor import weights
from magictailor.backbones.community_lora import CommunityLoRA, merge
from magictailor.backbones.contract import Backbone
from magictailor.backbones.families import CLASSES, backbone_class
from magictailor.backbones.runtime import Runtime, RuntimeOptions, make_runtime, with_preset
from magictailor.backbones.sources import (
    PAPERS_BASE,
    SEPARATOR,
    check_source,
    is_folder,
    is_single_file,
    local_path,
    read_index,
    split,
)
from magictailor.common.errors import InputError
from magictailor.common.events import Listener, Notice, ignore
from magictailor.common.hub import hub_answers
from magictailor.common.logging import quiet_loading
from magictailor.common.pretrained import check_part
from magictailor.common.text import reason, shortened

NOT_NEEDED = ("safety_checker", "feature_extractor", "image_encoder")


def _check_kind(kind: str, model: str) -> str:
    if kind not in CLASSES:
        raise InputError(
            f"{model}: is a {kind}, which magictailor cannot train",
            f"choose a model of one of {', '.join(CLASSES)}",
            field="model",
        )
    return kind


def _read(folder: str, dtype: Any, **more: Any) -> Any:
    """The pipeline of a folder, without the safety checker, which is another model."""
    import diffusers

    index = read_index(folder)
    kind = _check_kind(str(index["_class_name"]), folder)
    more |= {k: None for k, v in index.items() if v == [None, None]}  # parts that this model does without
    expected = [k for k, v in index.items() if isinstance(v, list) and v[0] and k not in (*NOT_NEEDED, *more)]
    if missing := [part for part in expected if not Path(folder, part).is_dir()]:
        raise InputError(
            f"{folder}: has no {missing[0]}", "download the model again, all of its folders", field="model"
        )
    for part in expected:
        check_part(Path(folder, part), field="model")
    if kind == "StableDiffusionPipeline":
        more |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    weights_of = [p.name for part in ("unet", "transformer") for p in Path(folder, part).glob("*.safetensors")]
    if weights_of and all(".fp16" in name for name in weights_of):
        more["variant"] = "fp16"
    pipeline: Any = getattr(diffusers, kind)
    return pipeline.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True, **more)


def _download(model: str, listen: Listener) -> str:
    """The folder of a hub's model in the user's cache. Its class is checked first: other models are tens of gigabytes."""
    from diffusers import DiffusionPipeline
    from huggingface_hub import hf_hub_download

    _say_licence(model, listen)
    index = read_index(str(Path(hf_hub_download(model, "model_index.json")).parent))
    kind = _check_kind(str(index["_class_name"]), model)
    left_out = {"safety_checker": None} if kind == "StableDiffusionPipeline" else {}
    try:
        return str(DiffusionPipeline.download(model, use_safetensors=True, **left_out))
    except OSError:  # some keep only half precision
        return str(DiffusionPipeline.download(model, use_safetensors=True, variant="fp16", **left_out))


def _say_licence(model: str, listen: Listener) -> None:
    """Say the licence of a hub's model before anything large is downloaded.

    Raises:
        InputError: a repository that only gives its files to users who have accepted its licence.
    """
    from huggingface_hub import model_info
    from huggingface_hub.errors import GatedRepoError

    try:
        info = model_info(model)
    except GatedRepoError as error:
        raise _gated(model) from error
    except Exception:  # offline, or a name that is not there: what asks next says so
        return
    card: Any = info.card_data or {}
    licence = card.get("license_name") or card.get("license") or "not stated"
    listen(Notice(f"{model}: its licence is {licence}; https://huggingface.co/{model} says more", warning=True))


def _gated(model: str) -> InputError:
    return InputError(
        f"{model}: gives its files only to users who have accepted its licence",
        f"accept it at https://huggingface.co/{model}, then run `hf auth login`",
        field="model",
    )


def _from_hub(model: str, listen: Listener) -> str:
    """Its folder in the cache, if it is whole there; what is missing is downloaded."""
    from diffusers import DiffusionPipeline
    from huggingface_hub.errors import GatedRepoError

    try:
        cached = str(DiffusionPipeline.download(model, use_safetensors=True, local_files_only=True))
        _check_kind(str(read_index(cached)["_class_name"]), model)
        return cached
    except InputError:
        raise
    except Exception as error:  # not cached, or not whole: the library raises nearly anything
        if not hub_answers():
            raise _not_had(model, "there is no network") from error
    try:
        return _download(model, listen)
    except InputError:
        raise
    except GatedRepoError as error:
        raise _gated(model) from error
    except Exception as error:
        raise _not_had(model, reason(error)) from error


def _not_had(model: str, why: str) -> InputError:
    return InputError(
        f"{model}: neither a folder or file here nor complete in the hub's cache, and the hub gave no safetensors "
        f"({why})",
        f"check the name (for instance {PAPERS_BASE}) and the network",
        field="model",
    )


def _folder(model: str, listen: Listener) -> tuple[str, str]:
    """A model's full name, and its folder."""
    if is_folder(model):
        path = str(local_path(model).resolve())
        return path, path
    return model, _from_hub(model, listen)


def _shared(model: str, dtype: Any) -> dict[str, Any]:
    """The parts that a shipped base has from another one."""
    if (weights.BASES[model] / "vae").is_dir():
        return {}
    from diffusers import AutoencoderKL

    return {"vae": AutoencoderKL.from_pretrained(weights.AUTOENCODER, torch_dtype=dtype, local_files_only=True)}


def _opened(model: str, dtype: Any, listen: Listener) -> tuple[str, Any, str]:
    """A model's full name, its pipeline, and what was assumed about it."""
    from magictailor.backbones.single_file import open_single_file
    from magictailor.backbones.single_transformer import open_transformer

    check_source(model)
    if (parts := split(model)) is not None:
        file, (name, folder) = local_path(parts[0]).resolve(), _folder(parts[1], listen)
        transformer = open_transformer(file, Path(folder), read_index(folder), dtype)
        return f"{file}{SEPARATOR}{name}", _read(folder, dtype, transformer=transformer), ""
    if model in weights.BASES:
        return model, _read(str(weights.BASES[model]), dtype, **_shared(model, dtype)), ""
    if is_single_file(model):
        path = local_path(model).resolve()
        return str(path), *open_single_file(path, dtype)
    name, folder = _folder(model, listen)
    return name, _read(folder, dtype), ""


def _move(backbone: Backbone, runtime: Runtime) -> None:
    import torch

    try:
        backbone.to(runtime)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{backbone.name}: too large for the memory of {runtime.device} in {runtime.precision} "
            f"(preset {runtime.preset.name})",
            "try preset 8gb or device cpu",
            field="model",
        ) from error
    except RuntimeError as error:  # a bitsandbytes without a library for this card says so only now
        raise InputError(
            f"{runtime.precision} (preset {runtime.preset.name}) on {runtime.device}: {reason(error)}",
            "try precision bf16",
            field="precision",
        ) from error


def load_backbone(
    model: str = "embedded",
    loras: Sequence[CommunityLoRA] = (),
    listen: Listener = ignore,
    **options: Unpack[RuntimeOptions],
) -> Backbone:
    """A model with ``loras`` merged in: of a family in docs/models.md, or a base that comes with the package.

    Args:
        model: ``embedded`` or ``embedded-dit``; a folder in diffusers format; a checkpoint in one .safetensors file; a
            hub's name; or a transformer in one file with the model that has its other parts, ``FILE@MODEL``.
        listen: gets a notice of a model's licence before it is downloaded.
        options: see `RuntimeOptions`. The embedded bases are small: their precision is fp32, unless given.

    Raises:
        InputError: no such model or device, an unknown family, a damaged file, a pickle, or a LoRA that does not fit.
    """
    quiet_loading()
    if model in weights.BASES:
        options["precision"] = "fp32" if (asked := options.get("precision")) is None else asked
    runtime = make_runtime(**options)
    try:
        name, pipeline, assumption = _opened(model, runtime.dtype, listen)
        backbone: Backbone = backbone_class(type(pipeline).__name__)(name, pipeline, runtime=None)
        backbone.assumption = assumption
    except InputError:
        raise
    except Exception as error:  # on damaged files the libraries raise nearly anything
        raise InputError(
            f"{model}: its files do not fit together ({shortened(' '.join(str(error).split()) or type(error).__name__, 160)})",
            "download it again, all of it",
            field="model",
        ) from error
    backbone.digest_as_loaded = backbone.digest()
    merge(backbone.pipeline, loras)
    backbone.loras = tuple(loras)
    _move(backbone, with_preset(runtime, backbone.family, options))
    return backbone
