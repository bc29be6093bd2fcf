"""Named tensors in safetensors files: weights and training state. Nothing is unpickled."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from magictailor.common.errors import InputError
from magictailor.common.files import write_atomically
from magictailor.common.headers import Header, read_header


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. Does not wait for a card, which would have nothing to do until the next launch."""
    return tensor.to(device, non_blocking=True)


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


def _check_shapes(path: Path, header: Header, shapes: Mapping[str, Sequence[int]], fix: str) -> None:
    for name, shape in shapes.items():
        if name not in header.entries:
            raise InputError(f"{path}: damaged (it has no tensor {name!r})", fix)
        if (found := header.entries[name].shape) != tuple(shape):
            raise InputError(f"{path}: damaged ({name!r} is {list(found)}, expected {list(shape)})", fix)
    if unknown := [name for name in header.entries if name not in shapes]:
        raise InputError(f"{path}: damaged (unexpected tensor {unknown[0]!r})", fix)


def read_tensors(
    path: Path,
    shapes: Mapping[str, Sequence[int]] | None = None,
    *,
    fix: str = "train into a new folder",
    field: str = "",
    limit: int | None = None,
) -> dict[str, Tensor]:
    """All tensors of a file, after its header was found right. All numbers are finite.

    Args:
        shapes: by name, if they are known: nothing of another shape is read, and nothing else may be in the file.
        fix: what to do about a file that cannot be used.
        field: the caller's name of the argument, for the error.
        limit: the file's size in bytes at most.

    Raises:
        InputError: no such file, not safetensors, cut short, other names or shapes, NaN or infinity.
    """
    path = Path(path)
    header = read_header(path, fix, field=field)
    if shapes is not None:
        _check_shapes(path, header, shapes, fix)
    size = path.stat().st_size
    if limit is not None and size > limit:
        raise InputError(f"{path}: {size / 2**30:.1f} GB, more than {limit / 2**30:.1f}", fix, field=field)
    if not header.entries:
        raise InputError(f"{path}: damaged (no tensors in it)", fix, field=field)
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: damaged ({error})", fix, field=field) from error
    for name, tensor in tensors.items():
        wide = tensor.float() if tensor.itemsize == 1 else tensor  # torch cannot test 8 bits
        if tensor.is_floating_point() and not bool(wide.isfinite().all()):
            raise InputError(f"{path}: damaged ({name!r} has numbers that are not finite)", fix, field=field)
    return tensors


def read_metadata(path: Path, fix: str = "train into a new folder") -> dict[str, str]:
    """The strings in the file's header. Raises InputError as `read_header` does."""
    return dict(read_header(path, fix).metadata)


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
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:  # fused optimizers read both in the order of their memory
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
