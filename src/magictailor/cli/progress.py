"""Progress bars for all long work, with its losses next to them: a listener of events."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from magictailor.common import events
from magictailor.common.events import Event, Listener


class Advance(Protocol):
    def __call__(self, done: int, total: int, figures: Mapping[str, float], title: str | None = None) -> None: ...


@contextmanager
def bar(first: str, console: Console, keep: bool = True) -> Iterator[Advance]:
    """Yields a function (done, total, figures); losses are shown where there are any.

    ``keep``: whether lines with a title of their own stay when they are finished; many would fill the screen.
    """
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=11)),
        BarColumn(12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def advance(done: int, total: int, figures: Mapping[str, float], title: str | None = None) -> None:
            key = title or first
            if key not in tasks:
                tasks[key] = progress.add_task(key, total=total, figures="")
            losses = {
                k.removeprefix("diffusion."): v for k, v in figures.items() if k.startswith(("loss", "diffusion"))
            }
            shown = " ".join(f"{k} {v:.3f}" for k, v in losses.items())
            progress.update(tasks[key], completed=done, total=total, figures=shown)
            if done >= total and title is not None and not keep:
                progress.remove_task(tasks.pop(key))

        yield advance


@contextmanager
def progress_bars(console: Console, keep: bool = True) -> Iterator[Listener]:
    """Yields a listener that shows one bar per task and prints notices above the bars.

    ``keep``: whether the bar of a finished task stays; many would fill the screen.
    """
    with bar("", console, keep) as advance:

        def listen(event: Event) -> None:
            match event:
                case events.Progress():
                    advance(event.done, event.total, event.metrics, event.task)
                case events.Notice():
                    console.print(event.text)
                case _:
                    pass

        yield listen
