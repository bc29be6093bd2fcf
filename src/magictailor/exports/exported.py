"""A run's result, independent of the names that tools give its parts."""

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
from magictailor.backbones.lora import Adapter, LoRAKeys, header_alpha
from magictailor.common.errors import InputError
from magictailor.common.headers import WORD
from magictailor.common.tensors import read_metadata, read_tensors, unprefixed, write_tensors
from magictailor.exports.families import FAMILIES, SGM, Family
from magictailor.exports.readme import with_words
from magictailor.recipe import Recipe
from magictailor.recipe.naming import Naming
from magictailor.training.result import check_base, check_lora, check_words
from magictailor.training.run_folder import LORA_FILE, WORDS_FILE, RunInfo, finished_run
from magictailor.training.trainables import OWN_WEIGHTS, WORDS

WHOLE = ("merged", "checkpoint")  # hold a whole model


@dataclass(frozen=True)
class Exported:
    """A run's result, independent of the tools' names."""

    name: str
    folder: Path  # the run's
    info: RunInfo
    family: Family
    pipeline_class: str  # in diffusers
    noise_schedule: Mapping[str, Any]
    lora_keys: LoRAKeys
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


def _adapter(file: Path, lora_keys: LoRAKeys) -> Adapter:
    tensors = read_tensors(file)
    modules = dict.fromkeys(key.removeprefix(f"{lora_keys.part}.").split(".lora_")[0] for key in tensors)
    return lora_keys.read(tensors, modules, header_alpha(read_metadata(file)))


def _call(backbone: Backbone, recipe: Recipe) -> dict[str, object]:
    size = {} if recipe.data.size is None else {"height": recipe.data.size, "width": recipe.data.size}
    return backbone.guidance_inputs(recipe.sampling.guidance) | {"num_inference_steps": recipe.sampling.steps} | size


def _unreadable(backbone: Backbone, format: str) -> str | None:
    """Why no tool could read this format of this family; None if some can."""
    if format == "checkpoint" and backbone.denoiser_part != "unet":
        return f"one file with the whole model is not written for {backbone.family}"
    if format in ("kohya", "comfyui") and not backbone.lora_keys.named:
        return f"none of its tools loads a LoRA for {backbone.family}"
    return None


def read_exported(run: Path | str, half: bool, format: str) -> Exported:
    """Raises InputError: no finished run, or a result that this format cannot hold."""
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
    check_base(backbone, info, folder)
    if "lora" in kinds:
        check_lora(backbone, folder / LORA_FILE)
    if (reason := _unreadable(backbone, format)) is not None:
        raise InputError(f"{format}: {reason}", "choose diffusers", field="format")
    texts: Mapping[str, str] = {}
    if "pseudo-words" in kinds:
        rows = unprefixed(WORDS, read_tensors(folder / WORDS_FILE))
        check_words(backbone, info, folder, rows, {})
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
        lora_keys=backbone.lora_keys,
        texts=texts,
        size=backbone.size,
        adapter=_adapter(folder / LORA_FILE, backbone.lora_keys) if "lora" in kinds else {},
        words=words,
        absent=[part for part in ("text_encoder_3", "tokenizer_3") if getattr(backbone.pipeline, part, 0) is None],
        call=_call(backbone, info.recipe),
        half=half,
    )
