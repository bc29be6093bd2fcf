"""Named tensors in safetensors files: weights and training state. Nothing is unpickled."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from magictailor.common.errors import InputError
from magictailor.common.files import write_atomically

WORD = "magictailor.word"  # in an exported embedding's header: its pseudo-word


def _sort_metadata(path: Path) -> None:
    """Sort the metadata in place: the library writes it in any order. The file keeps its length."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        if metadata := header.pop("__metadata__", {}):
            header = {"__metadata__": dict(sorted(metadata.items())), **header}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= size, "the library writes its header as compactly"
        file.seek(8)
        file.write(text.ljust(size))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors of any shapes; the same content gives the same bytes."""
    assert tensors, "no tensors to write"
    kept: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous()
        storage = flat.untyped_storage().data_ptr()
        # Copied only if the format cannot hold it: a whole model must not be in memory twice.
        kept[name] = flat.clone() if storage in storages or flat.untyped_storage().nbytes() != flat.nbytes else flat
        storages.add(storage)

    def write(temporary: Path) -> None:
        save_file(kept, temporary, dict(metadata or {}))
        _sort_metadata(temporary)

    write_atomically(path, write)


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: damaged or missing ({error})", "train into a new folder")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Raises InputError if the file is missing, cut short or not safetensors."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def read_metadata(path: Path) -> dict[str, str]:
    """The strings in the file's header. Raises InputError as `read_tensors` does."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{k}": v for k, v in tensors.items()}


def unprefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{prefix}.")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by the parameter's number and the state's name: ``12.exp_avg``."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": torch.as_tensor(v) for i, entry in state.items() for name, v in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load what `optimizer_tensors` gave; learning rates stay those of ``optimizer``."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
