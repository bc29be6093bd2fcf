"""What a running bench tells others: a file that its driver rewrites, and `bench status` reads on any machine."""

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from magictailor.common.records import read_record
from magictailor.evaluate.scheduling import Schedule
from magictailor.evaluate.stores import Store

FILE, PAUSE, SILENCE = "progress.json", 5.0, 60.0  # seconds: between two writings, and until a driver counts as stopped


class Progress(BaseModel):
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
    """Writes a schedule's state, at most every `PAUSE` seconds."""

    def __init__(self, store: Store, capacity: Callable[[], int]) -> None:
        self._store, self._capacity = store, capacity
        self._started, self._written = time.time(), 0.0

    def write(self, state: Schedule, ended: bool = False) -> None:
        if not ended and time.monotonic() - self._written < PAUSE:
            return
        self._written = time.monotonic()
        found: dict[str, Any] = {
            "driver": f"{socket.gethostname()}, process {os.getpid()}",
            "started": self._started,
            "updated": time.time(),
            "ended": ended,
            "capacity": self._capacity(),
            "total": state.total,
            "done": state.done,
            "skipped": len(state.skipped),
            "seconds_left": state.seconds_left(self._capacity()),
            "running": {} if ended else state.running,
            "failed": state.failed,
        }
        self._store.write(FILE, json.dumps(found, indent=1))


def read_progress(home: Path) -> Progress | None:
    """None if no bench has been started here. Raises InputError for a damaged file."""
    path = home / FILE
    return read_record(Progress, path, "delete it; the next run writes it anew") if path.exists() else None
