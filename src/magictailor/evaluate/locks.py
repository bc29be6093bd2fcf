"""Locks for units: a file that its owner touches regularly. Processes and machines share a folder; no server is needed."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

HEARTBEAT, EXPIRY = 10.0, 60.0  # seconds


def _create(path: Path, token: str) -> bool:
    """Create the file if it does not exist: only one of several processes succeeds."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as file:
        json.dump({"host": socket.gethostname(), "process": os.getpid(), "token": token}, file)
    return True


def _now(folder: Path) -> float:
    """The time by the clock that dates the folder's files; it may be another machine's."""
    probe = folder / f".{uuid4().hex}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _expired(path: Path) -> bool:
    with suppress(OSError):
        return _now(path.parent) - path.stat().st_mtime > EXPIRY
    return False


def _remove_expired(path: Path) -> None:
    """Remove the lock of a killed worker.

    Only one of several processes can rename it. If the renamed file turns out to be a new lock, it is put back.
    """
    if not _expired(path):
        return
    renamed = path.with_name(f".{path.name}.{uuid4().hex}")
    with suppress(OSError):
        path.rename(renamed)
        if not _expired(renamed):
            os.link(renamed, path)  # fails if another lock was created meanwhile
        renamed.unlink()


def _owns(path: Path, token: str) -> bool:
    """Whether the lock still has this token: it is lost if the process paused for longer than `EXPIRY`."""
    try:
        return bool(json.loads(path.read_text("utf-8")).get("token") == token)
    except (OSError, ValueError):
        return False


def is_locked(path: Path) -> bool:
    """Whether a living worker has the lock."""
    return path.exists() and not _expired(path)


@contextmanager
def acquire(path: Path) -> Iterator[bool]:
    """Yields whether this process has the lock. A killed worker's lock expires after `EXPIRY`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    token = uuid4().hex
    _remove_expired(path)
    if not _create(path, token):
        yield False
        return
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT):
            with suppress(OSError):
                if _owns(path, token):
                    os.utime(path)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield True
    finally:
        done.set()
        thread.join()
        with suppress(OSError):
            if _owns(path, token):
                path.unlink()
