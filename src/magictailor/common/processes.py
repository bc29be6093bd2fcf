"""Where work is done: on which device, and in how many processes.

Several share a step: each takes some of its micro-batches, and sums go over all of them.

Nothing here starts processes: `torchrun` or `accelerate launch` does. Without one, or without a torch.distributed group
that the caller has made, there is one process.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from magictailor.common.errors import InputError


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def launched() -> int:
    """How many processes a launcher has started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int | None:
    """Which of this machine's processes this is, if a launcher has started several."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() > 1 else None


def device_named(name: str) -> torch.device:
    """cpu, cuda, mps or one of several cards. Raises InputError for one that is not there."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"--device {name}: not on this machine; choose cpu, cuda or mps") from error
    return device


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Inside, one of the processes that a launcher has started; nothing changes where there is none."""
    begins = local_rank() is not None and not _together()
    if begins:
        on_card = device.type == "cuda"
        dist.init_process_group("nccl" if on_card else "gloo", device_id=device if on_card else None)
    try:
        yield
        if begins:
            wait()  # the first still writes what the others may read next
    finally:
        if begins:
            dist.destroy_process_group()


def wait() -> None:
    """Until all processes are here."""
    if _together():
        dist.barrier()


def first() -> bool:
    """Whether this process writes the files."""
    return process()[0] == 0


def process() -> tuple[int, int]:
    """This process's number, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if _together() else (0, 1)


def summed(*tensors: Tensor) -> None:
    """Add up each tensor over all processes, in place. All processes give the same tensors in the same order."""
    if _together():
        for tensor in tensors:
            dist.all_reduce(tensor)


def summed_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients over all processes; one that had no part of the step gives zeros."""
    if _together():
        for parameter in (p for p in parameters if p.requires_grad):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
