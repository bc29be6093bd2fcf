"""What a running bench tells others: a file that its driver rewrites, and `bench status` reads on any machine."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from magictailor.common.events import log
from magictailor.common.records import read_record
from magictailor.evaluate.scheduling import Schedule
from magictailor.evaluate.stores import Store

FILE = "progress.json"
PAUSE, SILENCE = 5.0, 60.0  # seconds: between two writings, and until a driver counts as stopped


class DriverState(BaseModel):
    """``updated``, and the start of each running unit: seconds since 1970 by the driver's clock."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)

    driver: str
    started: float
    updated: float
    ended: bool
    capacity: int
    total: int = Field(ge=0)
    done: int = Field(ge=0)
    skipped: int = Field(0, ge=0)
    seconds_left: float | None = None
    running: dict[str, float] = {}
    failed: dict[str, str] = {}

    @property
    def silent(self) -> float:
        """Seconds since the driver wrote; the clocks of two machines may differ."""
        return max(0.0, time.time() - self.updated)

    @property
    def at_work(self) -> bool:
        return not self.ended and self.silent < SILENCE


class Journal:
    """Writes a schedule's state from a thread of its own: a driver that trains in its own process says nothing for minutes.

    Use it in a ``with`` statement.
    """

    def __init__(self, store: Store, capacity: Callable[[], int]) -> None:
        self._store, self._capacity, self._started = store, capacity, time.time()
        self._state: dict[str, Any] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def note(self, state: Schedule) -> None:
        """What the next writing says."""
        self._state = {
            "driver": f"{socket.gethostname()}, process {os.getpid()}",
            "started": self._started,
            "capacity": self._capacity(),
            "total": state.total,
            "done": state.done,
            "skipped": len(state.skipped),
            "seconds_left": state.seconds_left(self._capacity()),
            "running": dict(state.running),
            "failed": dict(state.failed),
        }

    def end(self) -> None:
        """Say that all is done, after the ``with`` statement."""
        self._write({**self._state, "running": {}, "ended": True})

    def _write(self, state: dict[str, Any]) -> None:
        self._store.write(FILE, json.dumps({"ended": False, **state, "updated": time.time()}, indent=1))

    def _run(self) -> None:
        while True:
            if self._state:
                try:
                    self._write(self._state)
                except Exception:  # a full disk, a lost network: units meet it, too, and say so
                    log.warning("the bench's progress could not be written", exc_info=True)
            if self._closed.wait(PAUSE):
                return


def read_progress(home: Path) -> DriverState | None:
    """None if no bench has been started here. Raises InputError for a damaged file."""
    path = home / FILE
    return read_record(DriverState, path, "delete it; the next run writes it again") if path.exists() else None
