"""A job's own process: ``python -m magictailor.studio.jobs.process FOLDER PLACES``.

It holds the job's lock until it ends. It reads what is wanted of it from ``job.json``, and asks nothing of the server, which may
be gone.
"""

import json
import os
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from magictailor.common.errors import InputError, RunError, RunStopped
from magictailor.common.events import Event, PhaseStarted, Progress
from magictailor.common.files import append_lines, write_text
from magictailor.studio.jobs.job import EVENTS_FILE, JOB_FILE, LOCK_FILE, OUTCOME_FILE, Job, JobOutcome, run_folder
from magictailor.studio.jobs.store import read_ending, read_job
from magictailor.studio.workspace import AllowedFolders, try_lock

PAUSE = 0.2  # seconds between two lines of progress, and between two looks at what is wanted


class Reporter:
    """The listener of a job: writes its events to ``events.jsonl``, and does what is wanted of the job.

    Every step of a training is in the run's own metrics already, so its progress is not written here.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder, self.job = folder, job
        self._written = self._looked = 0.0
        self._asked = dict(job.asked)
        self._stopping = self._training = False

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Progress) or self._is_due(event):
            self.write(type(event).__name__, **_plain(event))
        self._training |= isinstance(event, PhaseStarted)
        self.obey()

    def write(self, kind: str, **fields: Any) -> None:
        append_lines(self.folder / EVENTS_FILE, [json.dumps({"kind": kind, **fields}, ensure_ascii=False)])

    def _is_due(self, event: Progress) -> bool:
        if event.task == "training":
            return False
        now = time.monotonic()
        due = now - self._written > PAUSE or event.done in (0, 1, event.total)
        self._written = now if due else self._written
        return due

    def obey(self) -> None:
        """A training is asked through its own folder, so that it ends with a checkpoint. All else ends here.

        Raises:
            RunStopped: pause or stop is wanted.
        """
        now = time.monotonic()
        if now - self._looked < PAUSE:
            return
        self._looked, job = now, read_job(self.folder)
        if not self._training:
            if job.wanted != "run":
                raise RunStopped("stopped")
            return
        from magictailor.training.requests import ask

        if job.wanted != "run" and not self._stopping:
            self._stopping = True
            ask(run_folder(self.folder), "stop")
        for request in ("preview", "checkpoint"):
            if job.asked.get(request, 0) > self._asked.get(request, 0):
                ask(run_folder(self.folder), request)
        self._asked = dict(job.asked)


def _plain(event: Event) -> dict[str, Any]:
    """An event as JSON; its files by their names in the job's folder."""
    fields = asdict(event)
    if "files" in fields:
        fields["files"] = [Path(f).name for f in fields["files"]]
    fields.pop("folder", None)
    return fields


def _locked(lock: int) -> bool:
    """Whether the lock could be taken. Whoever looks at it holds it for a moment; another process of the job, for long."""
    for _ in range(20):
        if try_lock(lock):
            return True
        time.sleep(0.1)
    return False


def _end(folder: Path, ending: JobOutcome) -> None:
    write_text(folder / OUTCOME_FILE, ending.model_dump_json(indent=2))


def run(folder: Path, allowed: AllowedFolders) -> int:
    """Do the job, if it is to be done and no other process does it. Returns an exit code."""
    lock = (folder / LOCK_FILE).open("a")
    if not _locked(lock.fileno()):
        return 75
    job, before = read_job(folder), read_ending(folder)
    if job.wanted != "run" or (before is not None and before.attempt >= job.attempt):
        return 75
    begun = JobOutcome(attempt=job.attempt, pid=os.getpid())
    _end(folder, begun)
    reporter = Reporter(folder, job)
    reporter.write("Started", attempt=job.attempt)
    try:
        from magictailor.studio.jobs.work import do

        result = do(job, folder, allowed, reporter)
        ending = begun.model_copy(update={"outcome": "done", "result": result})
    except RunStopped:
        ending = begun.model_copy(update={"outcome": "stopped"})
    except InputError as error:
        spelled = error.line(error.field.replace("_", " "))
        ending = begun.model_copy(update={"outcome": "failed", "message": spelled})
    except (RunError, FloatingPointError) as error:
        ending = begun.model_copy(update={"outcome": "failed", "message": str(error)})
    except Exception as error:  # a bug of ours or of a library: its traceback is in the job's log
        traceback.print_exc()
        message = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        ending = begun.model_copy(update={"outcome": "failed", "message": message, "fix": "the log has the details"})
    reporter.write("Ended", outcome=ending.outcome, message=ending.message)
    _end(folder, ending)
    return 0 if ending.outcome == "done" else 1


def _end_with_the_folder(folder: Path) -> None:
    """A job whose folder was removed has nowhere to write."""
    while (folder / JOB_FILE).exists():
        time.sleep(5)
    os._exit(1)


def main() -> None:
    folder, allowed = sys.argv[1:]
    threading.Thread(target=_end_with_the_folder, args=(Path(folder),), daemon=True).start()
    sys.exit(run(Path(folder), AllowedFolders.from_json(allowed)))


if __name__ == "__main__":
    main()
