"""One progress bar for all long work, with the figures beside it."""

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


class Advance(Protocol):
    def __call__(self, done: int, total: int, figures: Mapping[str, float], title: str | None = None) -> None: ...


def quiet_loading() -> None:
    """Keep the libraries' own bars and remarks on loading weights off the screen: they would break ours."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


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
