"""Who works on what: a file a unit, held by a heartbeat. No server; processes and machines share a folder."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

BEAT, STALE = 10.0, 60.0  # seconds


def _take(path: Path, token: str) -> bool:
    """Make the file, if nobody has: one of several processes succeeds."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as file:
        json.dump({"host": socket.gethostname(), "process": os.getpid(), "token": token}, file)
    return True


def _now(folder: Path) -> float:
    """The time by the clock that dates the folder's files, which may be another machine's."""
    probe = folder / f".{uuid4().hex}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _stale(path: Path) -> bool:
    with suppress(OSError):
        return _now(path.parent) - path.stat().st_mtime > STALE
    return False


def _clear_stale(path: Path) -> None:
    """Take away the claim of a worker that was killed. Of several that try, one renames it; who got a new claim instead puts it back."""
    if not _stale(path):
        return
    grave = path.with_name(f".{path.name}.{uuid4().hex}")
    with suppress(OSError):
        path.rename(grave)
        if not _stale(grave):
            os.link(grave, path)  # fails where there is yet another
        grave.unlink()


def _holds(path: Path, token: str) -> bool:
    """Whether the claim is still this one's: who slept too long has lost it."""
    try:
        return bool(json.loads(path.read_text("utf-8")).get("token") == token)
    except (OSError, ValueError):
        return False


def held(path: Path) -> bool:
    """Whether a living worker has it."""
    return path.exists() and not _stale(path)


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Inside, the unit is this process's, if it yields True. A killed worker's claim is free after a minute."""
    path.parent.mkdir(parents=True, exist_ok=True)
    token = uuid4().hex
    _clear_stale(path)
    if not _take(path, token):
        yield False
        return
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            with suppress(OSError):
                if _holds(path, token):
                    os.utime(path)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield True
    finally:
        done.set()
        thread.join()
        with suppress(OSError):
            if _holds(path, token):
                path.unlink()
