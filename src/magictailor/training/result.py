"""What a finished run's files must hold to be used on a base."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from magictailor.backbones import Backbone
from magictailor.common.errors import InputError
from magictailor.common.tensors import read_tensors
from magictailor.training.run_folder import WORDS_FILE, RunInfo


def check_base(backbone: Backbone, info: RunInfo, folder: Path) -> None:
    """Raises InputError for another base than the run's."""
    # In another precision the same weights have other last digits, and so another digest.
    if info.base not in (None, backbone.digest_as_loaded) and backbone.runtime.precision == info.precision:
        raise InputError(
            f"{info.model}: not the base that {folder} was trained on (its weights have changed)",
            "put that one back, or train again",
            field="model",
        )


def check_words(
    backbone: Backbone, info: RunInfo, folder: Path, rows: Mapping[str, Tensor], matrices: Mapping[str, Tensor]
) -> None:
    """Raises InputError for vectors that this base's encoders do not have."""
    tables: dict[str, Any] = {n: e.get_input_embeddings().weight for n, e in backbone.text_encoders.items()}  # type: ignore[operator]
    wanted = {f"{w}.{e}": (1, table.shape[-1]) for w in info.words for e, table in tables.items()} if rows else {}
    found = {name: tuple(row.shape) for name, row in rows.items()}
    plain = all(tensor.is_floating_point() for tensor in (*rows.values(), *matrices.values()))
    if not plain or found != wanted or any(n not in tables or m.shape != tables[n].shape for n, m in matrices.items()):
        raise InputError(
            f"{folder / WORDS_FILE}: damaged (it has {found or 'other tables'}, expected {wanted or 'those of the base'})",
            "train into a new folder",
        )


def check_lora(backbone: Backbone, file: Path) -> None:
    """Raises InputError for a LoRA of other layers or sizes than the base's, before diffusers leaves them out silently."""
    layers, tensors = dict(backbone.denoiser.named_modules()), read_tensors(file)
    for name, tensor in tensors.items():
        module, _, end = name.removeprefix(f"{backbone.denoiser_part}.").rpartition(".lora_")
        layer: Any = layers.get(module)
        weight: Any = getattr(getattr(layer, "base_layer", layer), "weight", None)
        factor, _, rest = end.partition(".")
        first = factor == "A"
        other = tensors.get(f"{name[: -len(end)]}{'B' if first else 'A'}.{rest}")
        fits = weight is not None and factor in ("A", "B") and tensor.ndim >= 2 and other is not None
        # Of a packed weight the shape says nothing.
        if not fits or (not backbone.runtime.bits and tensor.shape[first] != weight.shape[first]):
            raise InputError(f"{file}: damaged ({name!r} is not a layer of the base)", "train into a new folder")
        if other is not None and tensor.shape[not first] != other.shape[first]:
            raise InputError(f"{file}: damaged ({name!r} and its other half differ)", "train into a new folder")
