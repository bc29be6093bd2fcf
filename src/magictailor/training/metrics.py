"""A run's figures: JSON lines, and TensorBoard's events where tensorboard is installed."""

import json
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from magictailor.common.files import append_lines, write_text
from magictailor.common.processes import first

METRICS_FILE, EVENTS = "metrics.jsonl", "tensorboard"


class Metrics:
    """Figures by step, written when `flush` is called (with each checkpoint).

    Made again on resuming, it drops the figures of steps that the checkpoint does not hold: they are run again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path, self._rows = folder / METRICS_FILE, list[dict[str, float]]()
        self._events = None
        if not first():
            return
        if self.path.exists():
            kept = [row for row in read_metrics(folder) if row["step"] < step]
            write_text(self.path, "".join(f"{json.dumps(row)}\n" for row in kept))
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(folder / EVENTS), purge_step=step)  # type: ignore[no-untyped-call]

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        self._rows.append({"step": step, **figures})

    def flush(self) -> None:
        append_lines(self.path, [json.dumps(row) for row in self._rows])
        if self._events is not None:
            for row in self._rows:
                for name, value in row.items():
                    if name != "step":
                        self._events.add_scalar(name, value, int(row["step"]))  # type: ignore[no-untyped-call]
            self._events.flush()  # type: ignore[no-untyped-call]
        self._rows.clear()


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """All whole lines; one that a kill cut short is left out."""
    rows = []
    for line in (folder / METRICS_FILE).read_text("utf-8", "replace").splitlines():
        with suppress(ValueError):
            row = json.loads(line)
            rows += [row] if isinstance(row, dict) and "step" in row else []
    return rows
