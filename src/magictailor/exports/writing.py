"""Export a finished run as files that other tools load."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from magictailor.backbones import Backbone, load_backbone
from magictailor.backbones.contract import WordVectors
from magictailor.backbones.lora import (
    Adapter,
    Spellings,
    diffusers_header,
    header_alpha,
)
from magictailor.common.errors import InputError
from magictailor.common.files import new_folder, write_text
from magictailor.common.tensors import WORD, read_metadata, read_tensors, unprefixed, write_tensors
from magictailor.exports.families import FAMILIES, SGM, Family
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
from magictailor.recipe import Recipe
from magictailor.recipe.naming import Naming
from magictailor.training.run_folder import LORA_FILE, WORDS_FILE, RunInfo, finished_run
from magictailor.training.trainables import OWN_WEIGHTS, WORDS
from magictailor.weights import EMBEDDED


@dataclass(frozen=True)
class Exported:
    """A run's result, independent of the tools' names."""

    name: str
    folder: Path  # the run's
    info: RunInfo
    family: Family
    pipeline_class: str  # in diffusers
    noise_schedule: Mapping[str, Any]
    spellings: Spellings
    texts: Mapping[str, str]  # what pseudo-words stand for, where they are not trained
    size: int
    adapter: Adapter  # empty: no LoRA
    words: Mapping[str, WordVectors]  # by pseudo-word
    absent: Sequence[str]  # parts of the pipeline that the base does without
    call: Mapping[str, object]  # arguments of the pipeline's call
    half: bool

    @property
    def prompt(self) -> str:
        """A training prompt with all pseudo-words: ``a photo of <person> with <hair>``."""
        naming = Naming(self.info.recipe, self.info.words)
        return with_words(naming.expand(naming.composite_prompt()), self.texts)

    @property
    def predicts_v(self) -> bool:
        return bool(self.noise_schedule.get("prediction_type") == "v_prediction")

    @property
    def names(self) -> dict[str, str]:
        """The name of each pseudo-word's embedding: without ``<``, which no tool reads, and not a common word alone."""
        return {word: f"{self.name}-{word.strip('<>')}" for word in self.words}

    def write(self, path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
        floats = torch.float16 if self.half else torch.float32
        kept = {k: v if k.endswith(".alpha") else v.to(floats) for k, v in tensors.items()}
        write_tensors(path, kept, header)

    def by_key(self, word: str) -> dict[str, Tensor]:
        """A pseudo-word's vectors under ComfyUI's keys."""
        return {self.family.embedding_keys[encoder]: vectors for encoder, vectors in self.words[word].items()}

    def write_words(
        self, folder: Path, key: Callable[[str], str] | None = None, trigger: Callable[[str, str], str] | None = None
    ) -> None:
        """Write one file per pseudo-word.

        Args:
            key: names a single tensor, if not by ComfyUI's key.
            trigger: what a prompt says for a word and its file's name; the name, unless given.
        """
        for word in self.words:
            tensors = self.by_key(word)
            if key is not None and len(tensors) == 1:
                tensors = {key(word): next(iter(tensors.values()))}
            name = self.names[word]
            header = self.modelspec("textual-inversion", name, trigger(word, name) if trigger else name) | {WORD: word}
            self.write(folder / f"{self.names[word]}.safetensors", tensors, {"format": "pt", **header})

    @property
    def date(self) -> str:
        """When the run's result was written, so that an export has the same bytes each time."""
        newest = max(file.stat().st_mtime for file in self.folder.glob("*.safetensors"))
        return datetime.fromtimestamp(int(newest), UTC).isoformat().replace("+00:00", "Z")

    def modelspec(self, kind: str, title: str, trigger: str) -> dict[str, str]:
        """``kind``: lora, textual-inversion, or empty for a whole model. As sd-scripts writes it."""
        prediction = {"epsilon": "epsilon", "v_prediction": "v"}.get(self.noise_schedule.get("prediction_type", ""))
        return {
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.architecture": f"{self.family.architecture}/{kind}".removesuffix("/"),
            "modelspec.implementation": self.family.implementation if kind == "lora" else SGM,
            "modelspec.date": self.date,
            **({"modelspec.prediction_type": prediction} if prediction else {}),
            "modelspec.title": title,
            "modelspec.resolution": f"{self.size}x{self.size}",
            "modelspec.trigger_phrase": trigger,
            "modelspec.usage_hint": "strength 1; the pseudo-words are embeddings in files of their own",
        }

    def lora_header(self, trigger: str) -> dict[str, str]:
        return {
            "ss_base_model_version": self.family.version,
            "ss_v2": str(self.family.version.startswith("sd_v2")),
            "ss_output_name": self.name,
            **self.modelspec("lora", self.name, trigger),
        }

    def kohya_header(self, trigger: str) -> dict[str, str]:
        """With the network that sd-scripts would load it into."""
        layer = next(iter(self.adapter.values()))
        network = {"module": "networks.lora", "dim": str(layer.rank), "alpha": f"{layer.alpha:g}", "args": "{}"}
        return self.lora_header(trigger) | {f"ss_network_{key}": text for key, text in network.items()}


def _diffusers(run: Exported, folder: Path, bundle: bool) -> str:
    if run.adapter:
        header = diffusers_header(read_metadata(run.folder / LORA_FILE), run.adapter)
        header |= run.modelspec("lora", run.name, run.prompt)
        run.write(folder / LORA_FILE, run.spellings.diffusers(run.adapter), header)
    run.write_words(folder, lambda word: word, lambda word, _: word)
    files = {word: f"{name}.safetensors" for word, name in run.names.items()}
    lora = LORA_FILE if run.adapter else None
    base = str(EMBEDDED) if run.info.model == "embedded" else run.info.model
    return in_diffusers(
        run.pipeline_class,
        base,
        lora,
        files,
        run.prompt,
        run.call,
        run.predicts_v,
        run.absent,
    )


def _kohya(run: Exported, folder: Path, bundle: bool) -> str:
    bundled = {f"bundle_emb.{run.names[w]}.{k}": v for w in run.words for k, v in run.by_key(w).items()}
    if run.adapter:
        tensors = run.spellings.kohya(run.adapter) | (bundled if bundle else {})
        run.write(folder / f"{run.name}.safetensors", tensors, run.kohya_header(with_words(run.prompt, run.names)))
    run.write_words(folder, lambda word: "emb_params")
    lora = run.name if run.adapter else None
    usage, uis = in_comfyui(lora, run.names, run.prompt), run.family.web_uis
    usage = in_a1111(lora, run.names, run.prompt, uis) + usage if uis else usage
    return usage + (BUNDLED if bundle else "")


def _comfyui(run: Exported, folder: Path, bundle: bool) -> str:
    if run.adapter:
        tensors = run.spellings.comfyui(run.adapter)
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
    if run.predicts_v and "text_encoder_2" not in backbone.networks:  # tools read it from the file for SDXL alone
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


FORMATS = {"diffusers": _diffusers, "kohya": _kohya, "comfyui": _comfyui, "merged": _merged, "checkpoint": _checkpoint}
WHOLE = ("merged", "checkpoint")  # hold a whole model


def _adapter(file: Path, spellings: Spellings) -> Adapter:
    tensors = read_tensors(file)
    modules = dict.fromkeys(key.removeprefix(f"{spellings.part}.").split(".lora_")[0] for key in tensors)
    return spellings.read(tensors, modules, header_alpha(read_metadata(file)))


def _call(backbone: Backbone, recipe: Recipe) -> dict[str, object]:
    size = {} if recipe.data.size is None else {"height": recipe.data.size, "width": recipe.data.size}
    return backbone.guidance_inputs(recipe.sampling.guidance) | {"num_inference_steps": recipe.sampling.steps} | size


def _unreadable(backbone: Backbone, format: str) -> str | None:
    """Why no tool could read this format of this family; None if some can."""
    if format == "checkpoint" and backbone.denoiser_part != "unet":
        return f"one file with the whole model is not written for {backbone.family}"
    if format in ("kohya", "comfyui") and not backbone.spellings.named:
        return f"none of its tools loads a LoRA for {backbone.family}"
    return None


def _read(run: Path | str, half: bool, format: str) -> Exported:
    folder, info = finished_run(run)
    kinds = info.recipe.kinds
    if kinds & OWN_WEIGHTS and format not in WHOLE:
        raise InputError(
            f"{format}: method {info.recipe.method} trains the model's own weights, which no LoRA holds",
            f"choose {' or '.join(WHOLE)}",
            field="format",
        )
    if "embedding-matrix" in kinds:
        raise InputError(
            f"{folder}: method {info.recipe.method} trains the whole embedding matrix, which no other tool reads",
            "export a run of method magictailor",
            field="run",
        )
    backbone = load_backbone(info.model, info.loras, device="cpu", precision="fp32")
    if (reason := _unreadable(backbone, format)) is not None:
        raise InputError(f"{format}: {reason}", "choose diffusers", field="format")
    texts: Mapping[str, str] = {}
    if "pseudo-words" in kinds:
        rows = unprefixed(WORDS, read_tensors(folder / WORDS_FILE))
        words = {w: {e: rows[f"{w}.{e}"] for e in backbone.text_encoders} for w in info.words}
    else:  # not trained: the LoRA was trained with their initial vectors, or with the text that they stand for
        initial = Naming(info.recipe, info.words).initial_texts()
        words = {word: vectors for word, vectors in backbone.add_words(initial).items() if vectors}
        texts = {word: text for word, text in initial.items() if word not in words}
    name = re.sub(r"[^A-Za-z0-9]+", "-", folder.resolve().name).strip("-") or "magictailor"
    return Exported(
        name=name,
        folder=folder,
        info=info,
        family=FAMILIES[backbone.family],
        pipeline_class=type(backbone.pipeline).__name__,
        noise_schedule=backbone.noise_schedule,
        spellings=backbone.spellings,
        texts=texts,
        size=backbone.size,
        adapter=_adapter(folder / LORA_FILE, backbone.spellings) if "lora" in kinds else {},
        words=words,
        absent=[part for part in ("text_encoder_3", "tokenizer_3") if getattr(backbone.pipeline, part, 0) is None],
        call=_call(backbone, info.recipe),
        half=half,
    )


def export(
    run: Path | str, output: Path | str, format: str = "diffusers", *, bundle: bool = False, half: bool = False
) -> Path:
    """Write a run's LoRA and pseudo-words as files of another tool, with a README.

    Args:
        output: a new or empty folder.
        format: ``diffusers``; ``kohya`` (A1111, sd-scripts, ComfyUI); ``comfyui``, its native keys; ``merged``, a whole
            diffusers pipeline with the LoRA in its weights; ``checkpoint``, the same in one file for A1111 and ComfyUI.
        bundle: write the embeddings also into kohya's LoRA file, which A1111 alone reads.
        half: write float16 instead of float32.

    Returns:
        The folder.

    Raises:
        InputError: no finished run, an unknown format, ``output`` is not empty; nothing has been written.
    """
    if format not in FORMATS:
        raise InputError(f"{format}: not a format", f"choose one of {', '.join(FORMATS)}", field="format")
    if bundle and format != "kohya":
        raise InputError(
            f"with format {format}: only kohya's LoRA files hold embeddings", "leave it out", field="bundle"
        )
    result = _read(run, half, format)
    if bundle and not result.adapter:
        raise InputError("needs a LoRA, and this run has none", "leave it out", field="bundle")
    with new_folder(output) as work:
        usage = FORMATS[format](result, work, bundle)
        info = result.info
        title = f"# {result.name}\n\nMade by magictailor from {info.model}, method {info.recipe.method}.\n"
        loras = () if format in WHOLE else info.loras  # a whole model has them in its weights
        title += "".join(f"Trained on top of {x.file} at strength {x.strength:g}: load that too.\n" for x in loras)
        write_text(work / "README.md", title + usage)
    return Path(output)
