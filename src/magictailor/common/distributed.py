"""Devices, and several processes that share each step of a training.

Each process computes some micro-batches of a step; gradients and losses are then summed over all processes.

`torchrun` or `accelerate launch` starts the processes; nothing here does. Without a launcher, or without a
torch.distributed group that the caller has made, there is one process.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from magictailor.common.errors import InputError
from magictailor.common.launcher import local_rank


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def device_named(name: str) -> torch.device:
    """cpu, cuda, cuda:1, mps.

    Raises:
        InputError: this machine has no such device.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"{name}: not on this machine", "choose cpu, cuda or mps", field="device") from error
    return device


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Inside, the processes of a launcher form a group; without a launcher, or in a group already, nothing changes."""
    ours = local_rank() is not None and not _initialized()
    if ours:
        on_gpu = device.type == "cuda"
        dist.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
    try:
        yield
        if ours:
            barrier()  # the main process still writes files that the others may read next
    finally:
        if ours:
            dist.destroy_process_group()


def barrier() -> None:
    """Wait until all processes are here."""
    if _initialized():
        dist.barrier()


def rank_and_world_size() -> tuple[int, int]:
    """This process's number, and the number of processes."""
    return (dist.get_rank(), dist.get_world_size()) if _initialized() else (0, 1)


def is_main_process() -> bool:
    """Whether this is the one process that writes files."""
    return rank_and_world_size()[0] == 0


def all_succeed(succeeded: bool, device: torch.device) -> bool:
    """Whether every process says so; waits for all of them."""
    failures = torch.tensor(float(not succeeded), device=device if device.type == "cuda" else "cpu")
    all_reduce(failures)
    return failures.item() == 0


def all_reduce(*tensors: Tensor) -> None:
    """Sum each tensor over all processes, in place. All processes give the same tensors in the same order."""
    if _initialized():
        for tensor in tensors:
            dist.all_reduce(tensor)


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the gradients over all processes; a process without a gradient contributes zeros."""
    if _initialized():
        for parameter in (p for p in parameters if p.requires_grad):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
