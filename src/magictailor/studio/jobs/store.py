"""The jobs of a studio on disk, and what may be done with each."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from magictailor.common.errors import InputError
from magictailor.common.files import write_text
from magictailor.studio.jobs.job import (
    ENDED,
    JOB_FILE,
    LOCK_FILE,
    OUTCOME_FILE,
    Job,
    JobOutcome,
    Spec,
    State,
    state_of,
)
from magictailor.studio.workspace import NotThere, Workspace, checked_name, is_locked

Action = Literal["pause", "stop", "resume", "retry", "preview", "checkpoint"]
# What may be done with a job in each state.
ALLOWED: dict[State, tuple[Action, ...]] = {
    "queued": ("pause", "stop"),
    "running": ("pause", "stop", "preview", "checkpoint"),
    "pausing": ("stop",),
    "stopping": (),
    "paused": ("resume", "stop"),
    "stopped": ("resume",),
    "interrupted": ("resume",),
    "failed": ("retry",),
    "done": (),
}
ONLY_TRAINING: tuple[Action, ...] = ("preview", "checkpoint")


@dataclass(frozen=True)
class Status:
    """A job with the state that follows from its folder."""

    job: Job
    state: State
    ending: JobOutcome | None

    @property
    def actions(self) -> tuple[Action, ...]:
        training = self.job.spec.kind == "train"
        return tuple(a for a in ALLOWED[self.state] if training or a not in ONLY_TRAINING)


def read_job(folder: Path) -> Job:
    """Raises InputError for a damaged file."""
    try:
        return Job.model_validate_json((folder / JOB_FILE).read_bytes())
    except FileNotFoundError as error:
        raise NotThere(f"{folder.name}: no such job", "reload the page") from error
    except (ValidationError, OSError) as error:
        raise InputError(f"{folder / JOB_FILE}: damaged", "remove the job's folder") from error


def read_ending(folder: Path) -> JobOutcome | None:
    """None: no attempt has begun. A damaged file reads as an attempt that was cut short."""
    try:
        return JobOutcome.model_validate_json((folder / OUTCOME_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, OSError):
        return JobOutcome(attempt=0)


def status_of(folder: Path) -> Status:
    """Raises InputError for a folder that holds no job."""
    job = read_job(folder)
    locked = is_locked(folder / LOCK_FILE)
    ending = read_ending(folder)  # after the lock: a process that has just ended has written it
    return Status(job, state_of(job, ending, locked), ending)


def _stamp(path: Path) -> tuple[int, int, int]:
    """Changes with every write, as files are replaced whole."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size


class JobStore:
    """All jobs. Its functions may be called from any thread.

    Each returns after the change is on disk: what was acknowledged survives whatever happens next.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._lock = threading.RLock()
        self.changed: Callable[[], None] = lambda: None  # called after every change
        self._ended: dict[str, tuple[object, Status]] = {}  # of jobs that have ended, while their files stay the same

    def folder(self, id: str) -> Path:
        return self.workspace.find("jobs", id)

    def ids(self) -> list[str]:
        folders = self.workspace.jobs.iterdir()
        return sorted(f.name for f in folders if f.name[:1].isdigit() and not f.is_symlink() and f.is_dir())

    def statuses(self) -> Iterator[Status]:
        """Every job, by its number; one whose file is damaged is left out."""
        for id in self.ids():
            folder = self.workspace.jobs / id
            stamps = (_stamp(folder / JOB_FILE), _stamp(folder / OUTCOME_FILE))
            before = self._ended.get(id)
            if before is not None and before[0] == stamps:
                yield before[1]
                continue
            try:
                found = status_of(folder)
            except InputError:
                continue
            if found.ending is not None and found.ending.outcome is not None and found.state in ENDED:
                self._ended[id] = (stamps, found)
            yield found

    def status(self, id: str) -> Status:
        return status_of(self.folder(id))

    def add(self, spec: Spec, title: str, prepare: Callable[[Path], None] = lambda folder: None) -> Status:
        """Queue a job. ``prepare`` fills its folder before it can be seen.

        Raises:
            InputError: from ``prepare``; nothing is left behind.
            RunError: the disk is full; nothing is left behind.
        """
        with self._lock:
            number = 1 + max((int(i.split("-")[0]) for i in self.ids()), default=0)
            id = checked_name(f"{number:05d}-{spec.kind}")
            order = 1 + max((s.job.order for s in self.statuses()), default=0.0)
            job = Job(id=id, title=title[:200], spec=spec, order=order, created=time.time())
            work = self.workspace.jobs / f".new-{id}"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            try:
                prepare(work)
                (work / LOCK_FILE).touch()
                write_text(work / JOB_FILE, job.model_dump_json(indent=2))
                work.rename(self.workspace.jobs / id)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        self.changed()
        return self.status(id)

    def act(self, id: str, action: Action) -> Status:
        """Pause, stop, resume or retry a job, or ask a training for a preview or a checkpoint.

        Raises:
            InputError: the job's state does not allow it.
        """
        with self._lock:
            found = self.status(id)
            if action not in found.actions:
                allowed = ", ".join(found.actions) or "nothing"
                raise InputError(f"{action}: {id} is {found.state}", f"this can be done now: {allowed}", field="action")
            self._write(_changed(found.job, action))
        self.changed()
        return self.status(id)

    def move(self, id: str, before: str | None) -> None:
        """Put a queued job before another one; None: at the end.

        Raises:
            InputError: one of them is not in the queue.
        """
        with self._lock:
            queue = sorted((s.job for s in self.statuses() if s.state in ("queued", "paused")), key=lambda j: j.order)
            places = {job.id: n for n, job in enumerate(queue)}
            if missing := [name for name in (id, before) if name is not None and name not in places]:
                raise InputError(f"{missing[0]}: not in the queue", "reload the page", field="before")
            moved = queue.pop(places[id])
            others = [job.id for job in queue]
            place = others.index(before) if before is not None and before != id else len(queue)
            low = queue[place - 1].order if place else (queue[0].order - 2 if queue else moved.order - 1)
            high = queue[place].order if place < len(queue) else low + 2
            self._write(moved.model_copy(update={"order": (low + high) / 2}))
        self.changed()

    def rename(self, id: str, title: str) -> Status:
        """Raises InputError for an empty title."""
        if not title.strip():
            raise InputError("the title is empty", "write one", field="title")
        with self._lock:
            self._write(self.status(id).job.model_copy(update={"title": title.strip()[:200]}))
        self.changed()
        return self.status(id)

    def remove(self, id: str) -> None:
        """Delete a job with all its files.

        Raises:
            InputError: it is running.
        """
        with self._lock:
            found = self.status(id)
            if found.state not in (*ENDED, "queued"):
                raise InputError(f"{id}: is {found.state}", "stop it first", field="job")
            away = self.workspace.jobs / f".removed-{id}"
            os.replace(self.folder(id), away)
        shutil.rmtree(away, ignore_errors=True)
        self.changed()

    def _write(self, job: Job) -> None:
        write_text(self.folder(job.id) / JOB_FILE, job.model_dump_json(indent=2))


def _changed(job: Job, action: Action) -> Job:
    """The job after an action that its state allows."""
    if action in ("pause", "stop"):
        return job.model_copy(update={"wanted": action})
    if action in ("resume", "retry"):
        return job.model_copy(update={"wanted": "run", "attempt": job.attempt + 1})
    count = {k: v + (k == action) for k, v in ({"preview": 0, "checkpoint": 0} | job.asked).items()}
    return job.model_copy(update={"asked": count})
