"""One progress bar for all long work, with the figures beside it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Advance(Protocol):
    def __call__(self, done: int, total: int, figures: Mapping[str, float], title: str | None = None) -> None: ...


@contextmanager
def bar(first: str, console: Console) -> Iterator[Advance]:
    """Yields a function (done, total, figures); losses are shown where there are any."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        tasks = {first: progress.add_task(first, total=None, figures="")}

        def advance(done: int, total: int, figures: Mapping[str, float], title: str | None = None) -> None:
            key = title or first
            if key not in tasks:
                tasks[key] = progress.add_task(key, total=total, figures="")
            shown = "  ".join(f"{k} {v:.4g}" for k, v in figures.items() if k not in ("lr", "gradient_norm"))
            progress.update(tasks[key], completed=done, total=total, figures=shown)

        yield advance
