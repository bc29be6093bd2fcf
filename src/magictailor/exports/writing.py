"""Export a finished run as files that other tools load."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from magictailor.backbones import Backbone
from magictailor.backbones.lora import diffusers_header
from magictailor.common.errors import InputError
from magictailor.common.files import new_folder, write_text
from magictailor.common.headers import BUNDLE
from magictailor.common.tensors import read_metadata
from magictailor.exports.checks import check_export
from magictailor.exports.exported import WHOLE, Exported, read_exported
from magictailor.exports.older_readers import add_for_older_readers, v_configuration
from magictailor.exports.readme import (
    BUNDLED,
    PREDICTS_V_FILE,
    comfyui_prompt,
    in_a1111,
    in_checkpoint,
    in_comfyui,
    in_diffusers,
    with_words,
)
from magictailor.exports.single_file import single_file
from magictailor.generation.loading import load_trained
from magictailor.training.run_folder import LORA_FILE
from magictailor.weights import BASES


def _diffusers(run: Exported, folder: Path, bundle: bool) -> str:
    if run.adapter:
        header = diffusers_header(read_metadata(run.folder / LORA_FILE), run.adapter)
        header |= run.modelspec("lora", run.name, run.prompt)
        run.write(folder / LORA_FILE, run.lora_keys.diffusers(run.adapter), header)
    run.write_words(folder, lambda word: word, lambda word, _: word)
    files = {word: f"{name}.safetensors" for word, name in run.names.items()}
    lora = LORA_FILE if run.adapter else None
    base = str(BASES.get(run.info.model, run.info.model))
    return in_diffusers(
        run.pipeline_class,
        base,
        lora,
        files,
        run.prompt,
        run.call,
        run.predicts_v,
        run.absent,
        run.info.model in BASES,
    )


def _kohya(run: Exported, folder: Path, bundle: bool) -> str:
    bundled = {f"{BUNDLE}{run.names[w]}.{k}": v for w in run.words for k, v in run.by_key(w).items()}
    if run.adapter:
        tensors = run.lora_keys.kohya(run.adapter) | (bundled if bundle else {})
        run.write(folder / f"{run.name}.safetensors", tensors, run.kohya_header(with_words(run.prompt, run.names)))
    run.write_words(folder, lambda word: "emb_params")
    lora = run.name if run.adapter else None
    usage, uis = in_comfyui(lora, run.names, run.prompt), run.family.web_uis
    usage = in_a1111(lora, run.names, run.prompt, uis) + usage if uis else usage
    return usage + (BUNDLED if bundle else "")


def _comfyui(run: Exported, folder: Path, bundle: bool) -> str:
    if run.adapter:
        tensors = run.lora_keys.comfyui(run.adapter)
        run.write(folder / f"{run.name}.safetensors", tensors, run.lora_header(comfyui_prompt(run.prompt, run.names)))
    run.write_words(folder, trigger=lambda _, name: f"embedding:{name}")
    return in_comfyui(run.name if run.adapter else None, run.names, run.prompt)


def _fused(run: Exported) -> Backbone:
    """The run's model with the LoRA merged into its weights."""
    backbone, _ = load_trained(run.folder, device="cpu", precision="fp32")
    pipeline: Any = backbone.pipeline
    if run.adapter:
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    return backbone


def _checkpoint(run: Exported, folder: Path, bundle: bool) -> str:
    backbone = _fused(run)
    header = run.modelspec("", run.name, with_words(run.prompt, run.names))
    words = len(next(iter(backbone.tokenizers.values()))) - len(run.info.words)
    marks: dict[str, Tensor] = {}
    if run.predicts_v:  # some tools read the header, ComfyUI reads empty tensors
        marks["v_pred"] = torch.zeros(0)
        if run.noise_schedule.get("rescale_betas_zero_snr"):
            marks["ztsnr"] = torch.zeros(0)
    tensors = single_file(backbone.networks, words) | marks
    run.write(folder / f"{run.name}.safetensors", tensors, {"format": "pt", **header})
    run.write_words(folder, lambda word: "emb_params")
    usage = in_checkpoint(run.name, run.names, run.prompt)
    if run.predicts_v and "text_encoder_2" not in backbone.networks:  # tools read it from the file only for SDXL
        encoder: Any = backbone.networks["text_encoder"]
        large = encoder.config.hidden_act != "quick_gelu"
        write_text(folder / f"{run.name}.yaml", v_configuration(large))
        usage += PREDICTS_V_FILE.format(name=run.name)
    return usage


def _merged(run: Exported, folder: Path, bundle: bool) -> str:
    pipeline: Any = _fused(run).pipeline
    pipeline.to(torch.float16 if run.half else torch.float32)
    pipeline.save_pretrained(folder)
    add_for_older_readers(folder)
    return in_diffusers(run.pipeline_class, ".", None, {}, run.prompt, run.call, absent=run.absent)


WRITERS = {"diffusers": _diffusers, "kohya": _kohya, "comfyui": _comfyui, "merged": _merged, "checkpoint": _checkpoint}


def export(
    run: Path | str, output: Path | str, format: str = "diffusers", *, bundle: bool = False, half: bool = False
) -> Path:
    """Write a run's LoRA and pseudo-words as files of another tool, with a README.

    Args:
        output: a new or empty folder.
        format: ``diffusers``; ``kohya`` (A1111, sd-scripts, ComfyUI); ``comfyui``, its native keys; ``merged``, a whole
            diffusers pipeline with the LoRA in its weights; ``checkpoint``, the same in one file for A1111 and ComfyUI.
        bundle: write the embeddings also into kohya's LoRA file, which only A1111 reads.
        half: write float16 instead of float32.

    Returns:
        The folder.

    Raises:
        InputError: no finished run, an unknown format, ``output`` is not empty; nothing has been written.
    """
    check_export(run, output, format, bundle)
    result = read_exported(run, half, format)
    if bundle and not result.adapter:
        raise InputError("needs a LoRA, and this run has none", "leave it out", field="bundle")
    with new_folder(output) as work:
        usage = WRITERS[format](result, work, bundle)
        info = result.info
        title = f"# {result.name}\n\nMade by magictailor from {info.model}, method {info.recipe.method}.\n"
        loras = () if format in WHOLE else info.loras  # a whole model has them in its weights
        title += "".join(f"Trained on top of {x.file} at strength {x.strength:g}: load that too.\n" for x in loras)
        write_text(work / "README.md", title + usage)
    return Path(output)
