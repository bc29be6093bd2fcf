"""A transformer in one file, as creators publish it and ComfyUI keeps it; the rest comes from a diffusers model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from magictailor.common.errors import InputError
from magictailor.common.headers import read_header
from magictailor.common.text import reason

FLOATS = {"F64", "F32", "F16", "BF16"}
MARKS = ("scale_weight", "scaled_fp8", "weight_scale", "quant_state", "comfy_quant", "qweight")  # of quantised weights


def _check(file: Path) -> None:
    """Raises InputError for a file that is not there, not safetensors, or quantised."""
    entries = read_header(file, "download it again", field="model").entries
    types = {entry.dtype for entry in entries.values()}
    if types - FLOATS or any(mark in key for key in entries for mark in MARKS):
        found = ", ".join(sorted(types - FLOATS)) or "quantised"
        raise InputError(
            f"{file}: its weights are {found}, which cannot be trained on",
            "take the file in bf16, fp16 or fp32; --precision nf4 or int8 makes it small again",
            field="model",
        )


def open_transformer(file: Path, folder: Path, parts: Mapping[str, Any], dtype: Any) -> Any:
    """The file's transformer, in the class that the model in ``folder`` has.

    Args:
        parts: the model's index, with the class of each part.

    Raises:
        InputError: a quantised or damaged file, or one of another model.
    """
    import diffusers

    _check(file)
    kind = str(parts.get("transformer", ["", ""])[1])
    loader: Any = getattr(diffusers, kind, None)
    if not hasattr(loader, "from_single_file"):
        raise InputError(
            f"{folder}: has no transformer that is read from one file", "name a model with a transformer", field="model"
        )
    try:
        return loader.from_single_file(
            str(file), config=str(folder), subfolder="transformer", dtype=dtype, local_files_only=True
        )
    except Exception as error:  # another model's layers: the library raises nearly anything
        raise InputError(
            f"{file}: not a transformer of {folder.name} ({reason(error)})",
            "name the model that it was made from after the @",
            field="model",
        ) from error
