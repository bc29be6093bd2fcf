"""Progress bars for all long work, with its losses next to them: a listener of events."""

from collections.abc import Iterator
from contextlib import contextmanager

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


def print_notices(console: Console) -> Listener:
    """A listener that prints notices and nothing else."""

    def listen(event: Event) -> None:
        if isinstance(event, events.Notice):
            console.print(event.text)

    return listen


@contextmanager
def progress_bars(console: Console, keep: bool = True) -> Iterator[Listener]:
    """Yields a listener that shows one bar per task, with its losses, and prints notices above the bars.

    ``keep``: whether the bar of a finished task stays; many would fill the screen.
    """
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=11)),
        BarColumn(12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}
        notices = print_notices(console)

        def listen(event: Event) -> None:
            notices(event)
            if not isinstance(event, events.Progress):
                return
            if event.task not in tasks:
                tasks[event.task] = bars.add_task(event.task, total=event.total, losses="")
            names = (name for name in event.metrics if name.startswith(("loss", "diffusion")))
            losses = " ".join(f"{name.removeprefix('diffusion.')} {event.metrics[name]:.3f}" for name in names)
            bars.update(tasks[event.task], completed=event.done, total=event.total, losses=losses)
            if event.done >= event.total and not keep:
                bars.remove_task(tasks.pop(event.task))

        yield listen
