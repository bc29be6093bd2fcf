"""The folder, clock, listener and record of one training of the base, over all its interruptions."""

import json
import platform
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from magictailor.common.events import Listener, Notice, Progress
from magictailor.common.files import append_lines, write_json
from magictailor.world.training.output import pack
from magictailor.world.training.recipe import WorldTraining
from magictailor.world.training.state import METRICS_FILE, FractionDone

PACKED = ("base", "samples.png", "samples.json", METRICS_FILE, "training.json")  # a later training starts from base


class Clock:
    """Seconds of this training over all its sessions, and when each phase began. ``path`` keeps both."""

    def __init__(self, path: Path, minutes: float | None, started: float) -> None:
        self.path, self.limit, self.started = path, minutes and minutes * 60, started
        kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
        self.before: float = kept.get("seconds", 0.0)
        self.began: dict[str, float] = kept.get("began", {})

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def left(self) -> float:
        """Seconds until the limit; infinite without one."""
        return float("inf") if self.limit is None else self.limit - self.seconds()

    def begin(self, phase: str) -> float:
        """When this phase began, in this session or an earlier one."""
        began = self.began.setdefault(phase, round(self.seconds(), 2))
        self.save()
        return began

    def save(self) -> None:
        write_json(self.path, {"seconds": round(self.seconds(), 2), "began": self.began})


class Session:
    """One session of a training. ``packed``: folder for the packed results, if any."""

    def __init__(
        self,
        folder: Path,
        recipe: WorldTraining,
        device: torch.device,
        clock: Clock,
        listen: Listener,
        packed: Path | None,
    ) -> None:
        self.folder, self.recipe, self.device, self.clock, self.listen = folder, recipe, device, clock, listen
        self.packed = packed
        self.timed = recipe.minutes is not None
        self.on_cpu = device.type == "cpu"
        self.record: dict[str, Any] = {
            "recipe": recipe.model_dump(mode="json"),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        self._saved = time.monotonic()

    def log(self, phase: str, step: int, metrics: Mapping[str, float], steps: int | None = None) -> None:
        """Append to ``metrics.jsonl`` and send an event. ``steps``: of the phase, if they decide when it ends."""
        self.listen(Progress(phase, step, step if steps is None or self.timed else steps, metrics))
        line: dict[str, Any] = {"phase": phase, "step": step, "seconds": round(self.clock.seconds(), 1)}
        line |= {k: round(v, 5) for k, v in metrics.items()}
        append_lines(self.folder / METRICS_FILE, [json.dumps(line)])

    def logged(self, phase: str, metric: str, limit: int = 200) -> list[list[float]]:
        """[step, value] pairs from ``metrics.jsonl``, thinned to at most ``limit``."""
        path = self.folder / METRICS_FILE
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
        found = [[r["step"], r[metric]] for r in rows if r["phase"] == phase and metric in r]
        return found[:: -(-len(found) // limit)] if found else []

    def begin_phase(self, name: str, seconds: float, steps: int) -> FractionDone:
        """Begin a phase, unless an earlier session did; its end is decided by the clock or by steps."""
        began = self.clock.begin(name)
        if self.timed:
            return lambda step: (self.clock.seconds() - began) / max(1e-3, seconds)
        return lambda step: step / max(1, steps)

    def save_due(self) -> bool:
        """Whether it is time to save; the next time is then ``save_seconds`` later."""
        if time.monotonic() - self._saved < self.recipe.save_seconds:
            return False
        self._saved = time.monotonic()
        return True

    def pack(self) -> None:
        if self.packed is not None:
            pack(self.folder, PACKED, self.packed)

    def attempt(self, name: str, work: Callable[[], None]) -> None:
        """Do work that the result does not depend on: a failure is recorded and does not end the training."""
        try:
            work()
        except Exception as error:
            self.record.setdefault("failures", {})[name] = traceback.format_exc(limit=4)
            self.listen(Notice(f"{name} failed ({error!r}); training.json has the traceback", warning=True))

    @property
    def reserve(self) -> float:
        """Seconds kept for the last measurements, saving and samples."""
        limit = self.clock.limit or 0.0
        return (30.0 if self.recipe.samples else 12.0) if self.device.type == "cuda" else min(120.0, 0.2 * limit)
