"""Named tensors as safetensors: weights and training state. Nothing is unpickled."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from magictailor.files import write_whole


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Named tensors of any shapes as safetensors."""
    flat = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    write_whole(path, lambda p: save_file(flat, p, dict(metadata or {})))


def read_tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{k}": v for k, v in tensors.items()}


def unprefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{prefix}.")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state, one entry a parameter's number and name: ``12.exp_avg``."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": torch.as_tensor(v) for i, entry in state.items() for name, v in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo ``optimizer_tensors``; the rates stay those of ``optimizer``."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
