"""What long work reports while it goes on. The command line and every page listen to the same events."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from logging import DEBUG, INFO, WARNING
from pathlib import Path

log = logging.getLogger("magictailor")


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units of a task are finished: steps, images, files.

    ``metrics``: of the unit that was just finished (losses, learning rate), by name.
    """

    task: str  # "training", "generating", "prior images", ...
    done: int
    total: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PhaseStarted:
    """Training enters phase ``number`` (from 0) of ``count``, or goes on in it, at ``step``."""

    number: int
    count: int
    step: int


@dataclass(frozen=True)
class PreviewSaved:
    """Images generated during training, after ``step`` steps."""

    step: int
    files: tuple[Path, ...]


@dataclass(frozen=True)
class CheckpointSaved:
    """All that is needed to go on from ``step`` is on disk."""

    step: int


@dataclass(frozen=True)
class Notice:
    """A line for the user; ``warning``: something may not be as intended."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Done:
    """The work is complete; its results are in ``folder``."""

    folder: Path


Event = Progress | PhaseStarted | PreviewSaved | CheckpointSaved | Notice | Done
Listener = Callable[[Event], None]


def with_task(task: str, listen: Listener) -> Listener:
    """Passes events on to ``listen``, with this task for all progress."""
    return lambda event: listen(replace(event, task=task) if isinstance(event, Progress) else event)


def with_log(listen: Listener) -> Listener:
    """Passes events on to ``listen`` and to the log: progress as DEBUG, warnings as WARNING, all else as INFO."""

    def both(event: Event) -> None:
        warns = isinstance(event, Notice) and event.warning
        log.log(WARNING if warns else DEBUG if isinstance(event, Progress) else INFO, "%s", event)
        listen(event)

    return both


def ignore(event: Event) -> None:
    """A listener that does nothing."""
