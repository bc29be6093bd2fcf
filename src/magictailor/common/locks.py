"""Locks that die with their process: the operating system releases them, whatever ends it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from magictailor.common.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: no folder can be locked there
    fcntl = None  # type: ignore[assignment]


def lock_folder(folder: Path, *, wait: bool = False) -> int | None:
    """A handle that holds the folder's lock until it is closed; None where folders cannot be locked.

    ``wait``: for another process that holds it.

    Raises:
        BlockingIOError: a living process holds it.
        OSError: the folder cannot be opened.
    """
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        os.close(handle)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise BlockingIOError(*error.args) from error
        return None  # some network file systems know no locks
    return handle


@contextmanager
def only_process(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Inside, no other process works in the folder, as far as it asks for the same.

    Raises:
        InputError: another process works in it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = lock_folder(folder, wait=wait)
    except BlockingIOError as error:
        raise InputError(
            f"{folder}: another process is working in it",
            "wait until it ends, or choose another folder",
            field="output",
        ) from error
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}", "choose another folder", field="output") from error
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
