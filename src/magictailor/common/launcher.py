"""What a launcher of several processes (torchrun, accelerate) says in the environment. Needs no torch."""

import os

from magictailor.common.errors import InputError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def _launched() -> bool:
    """Whether a launcher started this process; a lone RANK or WORLD_SIZE is a leftover of something else."""
    return all(os.environ.get(name) for name in NAMES)


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        raise InputError(f"{name}={text}: not a number", f"unset {name}, or start with torchrun")
    return int(text)


def launched_processes() -> int:
    """The number of processes that a launcher has started; 1 without one.

    Raises:
        InputError: the launcher's numbers contradict each other.
    """
    if not _launched():
        return 1
    count, rank = _number("WORLD_SIZE"), _number("RANK")
    if rank >= max(count, 1):
        raise InputError(f"RANK={rank} of WORLD_SIZE={count}: impossible", "unset both, or start with torchrun")
    return count


def local_rank() -> int | None:
    """This process's number on this machine; None without a launcher of several."""
    return _number("LOCAL_RANK") if launched_processes() > 1 else None


def is_printing_process() -> bool:
    """Whether this process tells the user: of several, the first one."""
    return not _launched() or os.environ["RANK"] in ("0", "")
