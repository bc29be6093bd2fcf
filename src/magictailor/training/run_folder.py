"""What a run's folder says about the run: `run.json`."""

import importlib.metadata
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from magictailor.backbones.community_lora import CommunityLoRA
from magictailor.common.distributed import barrier, is_main_process
from magictailor.common.errors import InputError
from magictailor.common.files import write_json
from magictailor.data import Pair
from magictailor.recipe import Recipe, recipe_from
from magictailor.recipe.settings import upgraded

RUN_FILE, FORMAT = "run.json", 1
LORA_FILE, WORDS_FILE = "pytorch_lora_weights.safetensors", "words.safetensors"
WEIGHTS_FILE = "weights.safetensors"
PACKAGES = ("magictailor", "torch", "diffusers", "transformers", "peft", "safetensors", "numpy", "pillow")


@dataclass(frozen=True)
class RunInfo:
    """What `run.json` says: enough to generate, and to tell two runs apart."""

    model: str
    base: str | None  # the base's digest; None: a run from before format 1
    pair: dict[str, Any]  # name, and per sample: label, word, images' digests
    recipe: Recipe
    loras: tuple[CommunityLoRA, ...] = ()  # merged into the model before training
    start: str | None = None  # sha256 of what training started from, if not from the base alone
    precision: str = "fp32"  # of the model's frozen weights
    preset: str = "fast"  # whose settings went into the recipe

    @property
    def words(self) -> dict[str, str]:
        """``{word: label}`` of the pair."""
        return {s["word"]: s["label"] for s in self.pair["samples"]}

    def identity(self) -> dict[str, Any]:
        """What two runs in one folder must have in common."""
        loras = [asdict(lora) for lora in self.loras]
        return {
            "model": self.model,
            "base": self.base,
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
    """What the run's folder says; runs from before format 1 are read as well.

    Raises:
        InputError: no run there, a damaged file, or a newer format.
    """
    path = Path(folder) / RUN_FILE
    if not os.path.isfile(path):  # False, too, for a name that no path can have
        raise InputError(
            f"{folder}: not a run (no {RUN_FILE})", f"make one with `magictailor train PAIR --output {folder}`"
        )
    try:
        tree = json.loads(path.read_text("utf-8"))
        made_by = tree.get("format", 0)
        if made_by > FORMAT:
            raise InputError(f"{path}: format {made_by}, made by a newer version", "upgrade magictailor")
        info = RunInfo(
            tree["model"],
            tree.get("base"),
            tree["pair"],
            recipe_from(tree["recipe"] if made_by else upgraded(tree["recipe"])),
            tuple(CommunityLoRA(**lora) for lora in tree.get("loras", [])),
            tree.get("start"),
            tree.get("precision", "fp32"),
            tree.get("preset", "fast"),
        )
        texts = (info.model, info.precision, info.pair["name"], *info.words, *info.words.values())
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("names must be texts")
        return info
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({error!r})", "train into a new folder") from error


def format_of(folder: Path) -> int:
    """The format of a run's folder: `FORMAT`, or 0 for a run from before formats had numbers."""
    return int(json.loads((folder / RUN_FILE).read_text("utf-8")).get("format", 0))


def _check(folder: Path, info: RunInfo) -> None:
    if (folder / RUN_FILE).exists():
        existing = read_run(folder)
        if format_of(folder) == 0 and not is_finished(folder):
            raise InputError(
                f"{folder}: an unfinished run of an earlier version",
                "choose another folder and train again",
                field="output",
            )
        differs = [k for k, v in info.identity().items() if existing.identity()[k] != v]
        # In another precision the same weights have other last digits, and so another digest.
        if existing.base is None or existing.precision != info.precision:
            differs = [k for k in differs if k != "base"]
        if differs:
            preset = f"; its preset is {existing.preset}" if existing.preset != info.preset else ""
            raise InputError(
                f"{folder}: holds another run ({', '.join(differs)} differ{'s' * (len(differs) == 1)}{preset})",
                "choose another folder",
                field="output",
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is not a run", "choose a new or empty folder", field="output")


def claim(folder: Path, info: RunInfo) -> None:
    """Make ``folder`` this run's, or check that it already is; of several processes all check, then the first writes.

    Raises:
        InputError: the folder holds another run, or other files.
    """
    _check(folder, info)
    barrier()
    if is_main_process() and not (folder / RUN_FILE).exists():
        more = {**environment(), "preset": info.preset, "seconds": 0.0, "finished": False}
        write_json(folder / RUN_FILE, {"format": FORMAT, **info.identity(), **more})


def update_run(folder: Path, **changes: Any) -> None:
    """Change fields of `run.json`."""
    tree = json.loads((folder / RUN_FILE).read_text("utf-8"))
    write_json(folder / RUN_FILE, {**tree, **changes})


def is_finished(folder: Path) -> bool:
    return bool(json.loads((folder / RUN_FILE).read_text("utf-8")).get("finished"))


def stored_bytes(folder: Path) -> int:
    """The size of what a finished run is loaded from."""
    files = (folder / name for name in (LORA_FILE, WORDS_FILE, WEIGHTS_FILE))
    return sum(file.stat().st_size for file in files if file.exists())
