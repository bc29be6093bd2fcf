"""A checkpoint in one file, as creators have them: its family and its pipeline, without any hub."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from magictailor.backbones.configurations import CONFIGURATIONS, NOISE, Configuration
from magictailor.backbones.sources import PICKLES
from magictailor.common.errors import InputError
from magictailor.common.headers import read_header

ALLOW_PICKLE = "MAGICTAILOR_ALLOW_PICKLE"
# The start of a name in the file, and the model that has it; the first match decides.
UNKNOWN = {
    "conditioner.embedders.0.model.": "SDXL's refiner",
    "lora_": "a LoRA, which needs a base next to it",
    "edm_mean": "Playground 2.5, which has another noise schedule",
    "edm_vpred.sigma_max": "CosXL, which has another noise schedule",
}
KNOWN = {
    "conditioner.embedders.1.model.": "sdxl",
    "cond_stage_model.model.": "sd2",
    "cond_stage_model.transformer.text_model.": "sd1",
    "cond_stage_model.transformer.embeddings.": "sd1",  # files of 2022, which diffusers' reader does not know
}
CLIP = "cond_stage_model.transformer."
UNET = "model.diffusion_model."
FIRST_LAYER = f"{UNET}input_blocks.0.0.weight"
LAST_SHIFTS, SPREAD = f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias", 0.09  # as ComfyUI tells them apart
# Parts of names of transformers, which come without their text encoders; see `single_transformer`.
TRANSFORMERS = (
    "joint_blocks.0.",
    "double_blocks.0.",
    "transformer_blocks.0.attn.",
    "noise_refiner.0.",
    "cap_embedder.",
)
SUPPORTED = "Stable Diffusion 1.x, 2.x and SDXL"


def _header(file: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes by name, and the header's strings; of a pickle, if the user allows it, by loading only its weights."""
    if file.suffix in PICKLES:
        if os.environ.get(ALLOW_PICKLE) != "1":
            raise InputError(
                f"{file}: a pickle, which can run code",
                f"convert it to safetensors, or trust it: {ALLOW_PICKLE}=1",
                field="model",
            )
        import torch

        try:
            tensors = torch.load(file, map_location="meta", weights_only=True)
        except Exception as error:  # a pickle of anything else
            raise InputError(
                f"{file}: not a plain state dict, or damaged",
                "convert it to .safetensors with the tool that made it",
                field="model",
            ) from error
        tensors = tensors.get("state_dict", tensors)
        return {k: tuple(v.shape) for k, v in tensors.items() if isinstance(v, torch.Tensor)}, {}
    header = read_header(file, "download it again", field="model")
    return header.shapes, dict(header.metadata)


def _yaml_parameterization(file: Path) -> str | None:
    """``v`` or ``eps``, from the .yaml next to the file that A1111's users have; None without one."""
    settings = file.with_suffix(".yaml")
    if not settings.is_file():
        return None
    lines = (line.partition(":")[::2] for line in settings.read_text("utf-8", "replace").splitlines())
    return next((v.strip(" \"'") for k, v in lines if k.strip() == "parameterization"), None)


def _predicts_v(file: Path, shapes: Mapping[str, tuple[int, ...]], header: Mapping[str, str]) -> bool:
    """By the .yaml next to the file, its header, or a mark among its tensors; for Stable Diffusion 2 otherwise by the
    shifts of its last normalisation, which spread in the published v model and not in the other."""
    if (stated := _yaml_parameterization(file)) is not None:
        return stated == "v"
    spoken = f"{header.get('modelspec.prediction_type')} {header.get('modelspec.architecture')}"
    if "v_pred" in shapes or spoken.startswith("v") or "768-v" in spoken:
        return True
    if header.get("modelspec.prediction_type") or LAST_SHIFTS not in shapes or file.suffix in PICKLES:
        return False
    with safe_open(file, "pt") as opened:
        return float(opened.get_tensor(LAST_SHIFTS).float().std(unbiased=False)) > SPREAD


@dataclass(frozen=True)
class Detected:
    """A file's model. ``v``: it predicts v; ``zero_snr``: its noise schedule ends in pure noise."""

    family: str
    v: bool = False
    zero_snr: bool = False


def family_of(file: Path) -> Detected:
    """The family of a checkpoint: sd1, sd2, sd2-v or sdxl, and its prediction type.

    Raises:
        InputError: no checkpoint of these, a damaged file, or a pickle that the user has not allowed.
    """
    shapes, header = _header(file)
    if any(part in key for key in shapes for part in TRANSFORMERS):
        raise InputError(
            f"{file}: holds only a transformer",
            f"name the model with its text encoder and VAE after an @: {file.name}@black-forest-labs/FLUX.2-klein-base-4B",
            field="model",
        )
    for start, other in UNKNOWN.items():
        if any(key.startswith(start) for key in shapes):
            raise InputError(f"{file}: it is {other}", f"choose one of {SUPPORTED}", field="model")
    family = next((f for start, f in KNOWN.items() if any(key.startswith(start) for key in shapes)), None)
    if family is None:
        raise InputError(
            f"{file}: none of the known text encoders in it", f"choose a checkpoint of {SUPPORTED}", field="model"
        )
    if shapes.get(FIRST_LAYER, (0, 4))[1] != 4:
        raise InputError(
            f"{file}: it is for inpainting", f"choose a text-to-image checkpoint of {SUPPORTED}", field="model"
        )
    if family == "sd2" and any(key.startswith(f"{UNET}label_emb.") for key in shapes):
        raise InputError(
            f"{file}: it generates from images (unCLIP)",
            f"choose a text-to-image checkpoint of {SUPPORTED}",
            field="model",
        )
    v = _predicts_v(file, shapes, header)
    return Detected("sd2-v" if family == "sd2" and v else family, v, "ztsnr" in shapes)


def _write(folder: Path, name: str, config: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(config))


def write_configuration(folder: Path, config: Configuration) -> None:
    """The folder of configurations that diffusers' reader of single files needs."""
    parts = {"unet": ("diffusers", "UNet2DConditionModel"), "vae": ("diffusers", "AutoencoderKL")}
    parts |= {name: ("transformers", kind) for name, (kind, _) in config.encoders.items()}
    parts |= {name.replace("text_encoder", "tokenizer"): ("transformers", "CLIPTokenizer") for name in config.encoders}
    parts["scheduler"] = ("diffusers", "DDIMScheduler")
    _write(folder, "model_index.json", {"_class_name": config.pipeline, **parts})
    _write(folder / "unet", "config.json", {"_class_name": "UNet2DConditionModel", **config.unet})
    _write(folder / "vae", "config.json", {"_class_name": "AutoencoderKL", **config.vae})
    for name, (kind, settings) in config.encoders.items():
        _write(folder / name, "config.json", {"architectures": [kind], "model_type": "clip_text_model", **settings})


def _old_encoder(file: Path, config: Configuration) -> Any:
    """CLIP of a file whose names lack ``text_model.``; None where the file has the usual names."""
    import torch
    import transformers

    names = [key for key in _header(file)[0] if key.startswith(CLIP)]
    if not any(name.startswith(f"{CLIP}embeddings.") for name in names):
        return None
    if file.suffix in PICKLES:
        held = torch.load(file, map_location="cpu", weights_only=True)
        weights = {name: held.get("state_dict", held)[name] for name in names}
    else:
        with safe_open(file, "pt") as opened:
            weights = {name: opened.get_tensor(name) for name in names}
    weights = {name.removeprefix(CLIP): v for name, v in weights.items() if "position_ids" not in name}
    kind, settings = config.encoders["text_encoder"]
    encoder = getattr(transformers, kind)(transformers.CLIPTextConfig(**settings))
    try:
        getattr(encoder, "text_model", encoder).load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{file}: its text encoder is not complete", "download it again", field="model") from error
    return encoder.eval()


def open_single_file(file: Path, dtype: Any) -> tuple[Any, str]:
    """The pipeline with all weights of the file, and what was assumed.

    Raises:
        InputError: see `family_of`.
    """
    import diffusers

    from magictailor.backbones.clip_tokenizer import END, clip_tokenizer

    detected = family_of(file)
    config = CONFIGURATIONS[detected.family]
    tokenizers = {n.replace("text_encoder", "tokenizer") for n in config.encoders}
    given: dict[str, Any] = {n: clip_tokenizer(config.pads.get(n, END)) for n in tokenizers}
    prediction = "v_prediction" if detected.v else "epsilon"
    noise = {**NOISE, "prediction_type": prediction}
    if detected.zero_snr:
        noise |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    given["scheduler"] = diffusers.DDIMScheduler.from_config(noise)
    if config.pipeline == "StableDiffusionPipeline":
        given |= {"safety_checker": None, "feature_extractor": None}
    if (encoder := _old_encoder(file, config)) is not None:
        given["text_encoder"] = encoder.to(dtype)
    with tempfile.TemporaryDirectory() as work:
        write_configuration(Path(work) / "base", config)
        kind = getattr(diffusers, config.pipeline)
        pipeline = kind.from_single_file(
            str(file), config=str(Path(work) / "base"), dtype=dtype, local_files_only=True, **given
        )
    other = "eps" if detected.v else "v"
    return pipeline, (
        f"{file.name}: taken for {detected.family}, predicting {prediction}; "
        f"if that is wrong, write `parameterization: {other}` into {file.stem}.yaml next to it"
    )
