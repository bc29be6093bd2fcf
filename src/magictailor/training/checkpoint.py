"""A run's folder: its recipe, its state, and what it leaves for others."""

import importlib.metadata
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from magictailor.backbones.community_lora import CommunityLoRA
from magictailor.backbones.contract import Backbone
from magictailor.common.errors import InputError
from magictailor.common.files import write_json
from magictailor.common.processes import first, wait
from magictailor.common.tensors import (
    optimizer_tensors,
    prefixed,
    read_numbers,
    read_tensors,
    restore_optimizer,
    unprefixed,
    write_tensors,
)
from magictailor.data import Pair
from magictailor.recipe import Recipe, recipe_from
from magictailor.training.momentum import Momentum
from magictailor.training.trainables import MATRIX, WORDS, Trainables

RUN_FILE, STATE_FILE = "run.json", "checkpoint.safetensors"
LORA_FILE, WORDS_FILE = "pytorch_lora_weights.safetensors", "words.safetensors"
WEIGHTS_FILE = "weights.safetensors"
PACKAGES = ("magictailor", "torch", "diffusers", "transformers", "peft", "safetensors", "numpy", "pillow")


@dataclass(frozen=True)
class RunInfo:
    """What `run.json` says: enough to generate, and to refuse to mix two runs in one folder."""

    model: str
    pair: dict[str, Any]  # name, and per sample: label, word, images' digests
    recipe: Recipe
    loras: tuple[CommunityLoRA, ...] = ()  # merged into the model before
    start: str | None = None  # sha256 of what the training began from, if not from nothing
    precision: str = "fp32"  # of the model's frozen weights
    preset: str = "fast"  # that its recipe was begun with

    @property
    def words(self) -> dict[str, str]:
        """``{word: label}`` of the pair."""
        return {s["word"]: s["label"] for s in self.pair["samples"]}

    def identity(self) -> dict[str, Any]:
        loras = [asdict(lora) for lora in self.loras]
        return {
            "model": self.model,
            "loras": loras,
            "start": self.start,
            "precision": self.precision,
            "pair": self.pair,
            "recipe": self.recipe.dump(),
        }


def describe_pair(pair: Pair) -> dict[str, Any]:
    samples = [
        {"word": s.word, "label": s.label, "images": [{"file": r.path.name, "sha256": r.digest} for r in s.references]}
        for s in pair.samples
    ]
    return {"name": pair.name, "samples": samples}


def environment() -> dict[str, Any]:
    """Versions and threads: what else a bit-for-bit repetition needs."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"versions": versions, "threads": torch.get_num_threads()}


def read_run(folder: Path) -> RunInfo:
    """Raises InputError where there is no run."""
    path = Path(folder) / RUN_FILE
    if not os.path.isfile(path):  # False, too, for a name that no path can have
        raise InputError(
            f"{folder}: not a run (no {RUN_FILE}); make one with: magictailor train PAIR --output {folder}"
        )
    try:
        tree = json.loads(path.read_text("utf-8"))
        loras = tuple(CommunityLoRA(**lora) for lora in tree.get("loras", []))
        more = {"loras": loras, "start": tree.get("start")}
        more |= {"precision": tree.get("precision", "fp32"), "preset": tree.get("preset", "fast")}
        info = RunInfo(tree["model"], tree["pair"], recipe_from(tree["recipe"]), **more)
        if not all(
            isinstance(text, str)
            for text in (info.model, info.precision, info.pair["name"], *info.words, *info.words.values())
        ):
            raise TypeError("names must be texts")
        return info
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({error!r}); train into a new folder") from error


def _check(folder: Path, info: RunInfo) -> None:
    if (folder / RUN_FILE).exists():
        there = read_run(folder)
        differs = [k for k, v in info.identity().items() if there.identity()[k] != v]
        if differs:
            preset = f", and its preset was {there.preset}" if there.preset != info.preset else ""
            raise InputError(
                f"--output {folder}: holds another run (its {', '.join(differs)} differs{preset}); choose another folder"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--output {folder}: exists and is not a run; choose a new or empty folder")


def claim(folder: Path, info: RunInfo) -> None:
    """Make ``folder`` this run's, or check that it already is; of several processes all check, then the first writes.

    Raises:
        InputError: the folder holds another run, or other files.
    """
    _check(folder, info)
    wait()
    if first() and not (folder / RUN_FILE).exists():
        more = {**environment(), "preset": info.preset, "seconds": 0.0, "finished": False}
        write_json(folder / RUN_FILE, {**info.identity(), **more})


def note(folder: Path, **changes: Any) -> None:
    """Update fields of `run.json`."""
    tree = json.loads((folder / RUN_FILE).read_text("utf-8"))
    write_json(folder / RUN_FILE, {**tree, **changes})


def finished(folder: Path) -> bool:
    return bool(json.loads((folder / RUN_FILE).read_text("utf-8")).get("finished"))


@dataclass
class State:
    """All that changes during a run. ``step``: how many steps are done."""

    trained: Trainables
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    momentum: Momentum | None = None
    step: int = 0
    seconds: float = 0.0
    saved_at: float = 0.0
    save_seconds: float = 0.0  # that the last checkpoint took

    def save(self, folder: Path) -> None:
        began = time.monotonic()
        tensors = prefixed("trained", self.trained.named()) | prefixed("optimizer", optimizer_tensors(self.optimizer))
        if self.momentum is not None:
            tensors |= prefixed("momentum", self.momentum.weights)
        copies = int(self.momentum is not None and self.momentum.copies_next)
        numbers = {"step": self.step, "copies_next": copies, "seconds": self.seconds}
        texts = {k: repr(v) for k, v in numbers.items()} | {"scaler": json.dumps(self.scaler.state_dict())}
        write_tensors(folder / STATE_FILE, tensors, texts)
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - began


def read_state(
    folder: Path, trained: Trainables, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> State:
    """The last checkpoint put back into these, with the momentum network if it had started."""
    path = folder / STATE_FILE
    numbers = read_numbers(path)
    tensors = read_tensors(path)
    trained.restore(unprefixed("trained", tensors))
    restore_optimizer(optimizer, unprefixed("optimizer", tensors))
    kept = {n: t.to(trained.online[n].device) for n, t in unprefixed("momentum", tensors).items()}
    if scaler.is_enabled():
        scaler.load_state_dict(json.loads(numbers["scaler"]))
    return State(
        trained,
        optimizer,
        scaler,
        Momentum(kept, bool(int(numbers["copies_next"]))) if kept else None,
        int(numbers["step"]),
        float(numbers["seconds"]),
        time.monotonic(),
    )


def save_result(folder: Path, backbone: Backbone, trained: Trainables) -> None:
    """LoRA as diffusers loads it, the words' rows, the base's weights that were trained: what `load` reads."""
    from peft import get_peft_model_state_dict

    if trained.lora:
        weights = get_peft_model_state_dict(backbone.denoiser, save_embedding_layers=False)
        denoiser: Any = backbone.denoiser
        config = {f"unet.{k}": v for k, v in denoiser.peft_config["default"].to_dict().items()}
        # Without this metadata diffusers loses alpha silently.
        header = {"format": "pt", "lora_adapter_metadata": json.dumps(config, sort_keys=True, default=sorted)}
        write_tensors(folder / LORA_FILE, prefixed("unet", weights), header)
    words = prefixed(WORDS, trained.words) | prefixed(MATRIX, trained.matrices)
    if words:
        write_tensors(folder / WORDS_FILE, words)
    if trained.weights:
        write_tensors(folder / WEIGHTS_FILE, trained.weights)


def stored_bytes(folder: Path) -> int:
    """Of what a finished run is loaded from."""
    files = (folder / name for name in (LORA_FILE, WORDS_FILE, WEIGHTS_FILE))
    return sum(file.stat().st_size for file in files if file.exists())
