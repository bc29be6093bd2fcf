"""A run's metrics: JSON lines, one per step as it happens, and TensorBoard's events where tensorboard is installed."""

import json
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from magictailor.common.distributed import is_main_process
from magictailor.common.errors import InputError
from magictailor.common.files import append_lines, json_lines, write_text
from magictailor.training.run_folder import METRICS_FILE

EVENTS = "tensorboard"


class MetricsLog:
    """Writes the metrics of each step; made again on resuming, it drops steps that the checkpoint does not hold."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / METRICS_FILE
        self._events = None
        if not is_main_process():
            return
        if self.path.exists():
            kept = [row for row in read_metrics(folder) if row["step"] < step]
            write_text(self.path, "".join(f"{json.dumps(row)}\n" for row in kept))
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(folder / EVENTS), purge_step=step)  # type: ignore[no-untyped-call]

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        append_lines(self.path, [json.dumps({"step": step, **metrics})])
        if self._events is not None:
            for name, value in metrics.items():
                self._events.add_scalar(name, value, step)  # type: ignore[no-untyped-call]

    def flush(self) -> None:
        """TensorBoard's events; JSON lines are on disk already."""
        if self._events is not None:
            self._events.flush()  # type: ignore[no-untyped-call]


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """All complete lines; one that a kill cut short is left out."""
    path = folder / METRICS_FILE
    if not path.is_file():
        raise InputError(f"{path}: missing", "train for a step first")
    return [
        {k: v for k, v in row.items() if type(v) in (int, float) and math.isfinite(v)}
        for row in json_lines(path.read_text("utf-8", "replace"))
        if type(row.get("step")) is int
    ]
