"""What a run's folder says about the run: `run.json`."""

import importlib.metadata
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from magictailor.backbones.community_lora import CommunityLoRA
from magictailor.common.errors import InputError
from magictailor.common.files import is_empty, write_json
from magictailor.common.records import checked, read_json
from magictailor.recipe import Recipe, recipe_from
from magictailor.recipe.settings import upgraded

if TYPE_CHECKING:
    from magictailor.data import Pair

RUN_FILE, FORMAT = "run.json", 1
CHECKPOINTS = "checkpoints"  # a folder of runs, each this one as it was after some step
LORA_FILE, WORDS_FILE = "pytorch_lora_weights.safetensors", "words.safetensors"
WEIGHTS_FILE = "weights.safetensors"
STATE_FILE, METRICS_FILE = "checkpoint.safetensors", "metrics.jsonl"
PACKAGES = ("magictailor", "torch", "diffusers", "transformers", "peft", "safetensors", "numpy", "pillow")
RETRAIN_FIX, START_FIX = "train into a new folder", "name a finished run or an exported folder"


class _Read(BaseModel):
    """Part of a file that is read back. Unknown keys are a later version's, and stay."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")


class _Image(_Read):
    file: str
    sha256: str


class _Sample(_Read):
    word: str
    label: str
    images: list[_Image]


class _Pair(_Read):
    name: str
    samples: list[_Sample] = Field(min_length=1)


class _LoRA(_Read):
    file: str
    sha256: str
    strength: float


class RunFile(_Read):
    """`run.json`, as far as it is read back."""

    format: int = Field(0, ge=0)
    model: str
    base: str | None = None
    pair: _Pair
    recipe: dict[str, Any]
    loras: list[_LoRA] = []
    start: str | None = None
    precision: Literal["fp32", "bf16", "fp16", "int8", "nf4"] = "fp32"
    preset: str = "fast"
    finished: bool = False
    seconds: float = Field(0.0, ge=0)
    peak_gb: float | None = None


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


def describe_pair(pair: "Pair") -> dict[str, Any]:
    samples = [
        {"word": s.word, "label": s.label, "images": [{"file": r.path.name, "sha256": r.digest} for r in s.references]}
        for s in pair.samples
    ]
    return {"name": pair.name, "samples": samples}


def environment() -> dict[str, Any]:
    """Versions and threads: what else a bit-for-bit repetition needs."""
    import torch

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
    tree = _tree(folder)
    found = checked(RunFile, tree, path, RETRAIN_FIX)
    try:
        recipe = recipe_from(found.recipe if found.format else upgraded(found.recipe))
    except InputError as error:
        raise InputError(f"{path}: damaged ({error.problem})", RETRAIN_FIX) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # a recipe from before formats, of another shape
        raise InputError(f"{path}: damaged (its recipe is not readable: {error!r})", RETRAIN_FIX) from error
    words = [sample["word"] for sample in tree["pair"]["samples"]]
    if len(set(words)) < len(words):
        raise InputError(f"{path}: damaged (two samples have one word)", RETRAIN_FIX)
    loras = tuple(CommunityLoRA(**lora.model_dump()) for lora in found.loras)
    return RunInfo(found.model, found.base, tree["pair"], recipe, loras, found.start, found.precision, found.preset)


def _tree(folder: Path) -> dict[str, Any]:
    """`run.json` as it is. Raises InputError: damaged, or of a newer format."""
    path = folder / RUN_FILE
    tree = read_json(path, RETRAIN_FIX)
    if not isinstance(tree, dict):
        raise InputError(f"{path}: damaged (not a JSON object)", RETRAIN_FIX)
    number = tree.get("format", 0)
    if type(number) is int and number > FORMAT:
        raise InputError(f"{path}: format {number}, made by a newer version", "upgrade magictailor")
    return tree


def format_of(folder: Path) -> int:
    """The format of a run's folder: `FORMAT`, or 0 for a run from before formats had numbers."""
    return checked(RunFile, _tree(folder), folder / RUN_FILE, RETRAIN_FIX).format


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
    elif folder.exists() and (not folder.is_dir() or not is_empty(folder)):
        raise InputError(f"{folder}: exists and is not a run", "choose a new or empty folder", field="output")


def acquire(folder: Path, info: RunInfo) -> None:
    """Make ``folder`` this run's, or check that it already is; of several processes all check, then the first writes.

    Raises:
        InputError: the folder holds another run, or other files.
    """

    from magictailor.common.distributed import barrier, is_main_process

    _check(folder, info)
    barrier()
    if is_main_process() and not (folder / RUN_FILE).exists():
        write_run(folder, info)


def write_run(folder: Path, info: RunInfo, seconds: float = 0.0, *, finished: bool = False) -> None:
    """Write a new `run.json`."""
    more = {**environment(), "preset": info.preset, "seconds": round(seconds, 1), "finished": finished}
    write_json(folder / RUN_FILE, {"format": FORMAT, **info.identity(), **more})


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Where a run keeps its result after ``step`` steps: ``checkpoints/first-000100``, named as its exports will be."""
    return folder / CHECKPOINTS / f"{folder.name}-{step:06d}"


def kept_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints that a run has kept, in order."""
    pattern = re.compile(re.escape(folder.name) + r"-(\d{6,})")
    found = (folder / CHECKPOINTS).iterdir() if (folder / CHECKPOINTS).is_dir() else ()
    return sorted(int(match[1]) for path in found if (match := pattern.fullmatch(path.name)))


def update_run(folder: Path, **changes: Any) -> None:
    """Change fields of `run.json`."""
    write_json(folder / RUN_FILE, {**_tree(folder), **changes})


def is_finished(folder: Path) -> bool:
    return checked(RunFile, _tree(folder), folder / RUN_FILE, RETRAIN_FIX).finished


def finished_run(run: Path | str) -> tuple[Path, RunInfo]:
    """A run's folder and what it says. Raises InputError: no run there, or not finished."""
    folder = Path(run)
    info = read_run(folder)
    if not is_finished(folder):
        raise InputError(
            f"{folder}: the run is not finished", "run its train command again; it continues where it stopped"
        )
    return folder, info


def trained_files(folder: Path | str) -> list[Path]:
    """The safetensors files in the folder of a run or of an export, without a checkpoint.

    Raises:
        InputError: no such folder, or none in it.
    """
    path = os.path.abspath(os.path.expanduser(folder))
    if not os.path.isdir(path):  # False, too, for a name that no path can have
        raise InputError(f"{folder}: no such folder", START_FIX, field="start")
    files = sorted(p for p in Path(path).glob("*.safetensors") if p.name != STATE_FILE)
    if not files:
        raise InputError(f"{folder}: no LoRA or pseudo-word in it", START_FIX, field="start")
    return files


def stored_bytes(folder: Path) -> int:
    """The size of what a finished run is loaded from."""
    files = (folder / name for name in (LORA_FILE, WORDS_FILE, WEIGHTS_FILE))
    return sum(file.stat().st_size for file in files if file.exists())
