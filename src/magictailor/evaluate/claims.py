"""Who works on what: a file a unit, held by a heartbeat. No server; processes and machines share a folder."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

BEAT, STALE = 10.0, 60.0  # seconds


def _take(path: Path) -> bool:
    """Make the file, if nobody has: one of several processes succeeds."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as file:
        json.dump({"host": socket.gethostname(), "process": os.getpid()}, file)
    return True


def _clear_stale(path: Path) -> None:
    """Take away the claim of a worker that was killed; of several that try, one renames it."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > STALE:
            grave = path.with_name(f".{path.name}.{uuid4().hex}")
            path.rename(grave)
            grave.unlink()


def held(path: Path) -> bool:
    """Whether a living worker has it."""
    with suppress(OSError):
        return time.time() - path.stat().st_mtime <= STALE
    return False


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Inside, the unit is this process's, if it yields True. A killed worker's claim is free after a minute."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_stale(path)
    if not _take(path):
        yield False
        return
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            with suppress(OSError):
                os.utime(path)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield True
    finally:
        done.set()
        thread.join()
        with suppress(OSError):
            path.unlink()
