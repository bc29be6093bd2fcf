"""Starts queued jobs, each in a process and a session of its own, so that it outlives the server."""

import os
import signal
import subprocess
import sys
import threading
import time

from magictailor.studio.jobs.job import LOG_FILE, Job
from magictailor.studio.jobs.store import JobStore, Status
from magictailor.studio.workspace import AllowedFolders

BUSY = ("running", "pausing", "stopping")
# Jobs of one lane run one after another; lanes run side by side. On one card, generating waits for training.
LANES = {"train": "train", "generate": "generate", "masks": "quick", "export": "quick"}
ON_ONE_CARD = {**LANES, "generate": "train"}
POLL = 0.5  # seconds between looks at the jobs
AGAIN = 10.0  # seconds before a job is tried again whose process could not even begin: the disk is full


class Runner:
    """One thread that keeps every lane busy.

    Args:
        allowed: the owner's folders, for the jobs.
        one_card: generating waits for training, as both need the card's memory.
    """

    def __init__(self, store: JobStore, allowed: AllowedFolders, *, one_card: bool = False) -> None:
        self.store, self.allowed = store, allowed
        self.lanes = ON_ONE_CARD if one_card else LANES
        self._started: dict[str, tuple[int, subprocess.Popen[bytes], float]] = {}  # job: attempt, process, when
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="runner", daemon=True)
        store.changed = self.wake

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Start no more jobs. Those that run go on."""
        self._closed.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        self._wake.set()

    def resume_interrupted(self) -> list[str]:
        """Queue every job that was cut short; returns their names."""
        names = [s.job.id for s in self.store.statuses() if s.state == "interrupted"]
        for name in names:
            self.store.act(name, "resume")
        return names

    def kill(self, id: str) -> None:
        """End a job's process at once; it can be resumed. Nothing happens if it does not run."""
        found = self.store.status(id)
        if found.state in BUSY and found.ending is not None and found.ending.pid > 1:
            os.killpg(found.ending.pid, signal.SIGKILL)  # the lock is held, so the number is still its own

    def _run(self) -> None:
        while not self._closed.is_set():
            self._start_due()
            self._wake.wait(POLL)
            self._wake.clear()

    def _start_due(self) -> None:
        now = time.monotonic()
        self._started = {k: s for k, s in self._started.items() if s[1].poll() is None or now - s[2] < AGAIN}
        statuses = list(self.store.statuses())
        busy = {self._lane(s.job) for s in statuses if s.state in BUSY or self._is_starting(s)}
        for found in sorted((s for s in statuses if s.state == "queued"), key=lambda s: s.job.order):
            if (lane := self._lane(found.job)) not in busy:
                busy.add(lane)
                self._started[found.job.id] = (found.job.attempt, self._launch(found.job), now)

    def _lane(self, job: Job) -> str:
        return self.lanes[job.spec.kind]

    def _is_starting(self, found: Status) -> bool:
        """Whether its process has not taken the lock yet, or has just ended without beginning."""
        attempt, *_ = self._started.get(found.job.id, (0,))
        return found.state == "queued" and attempt == found.job.attempt

    def _launch(self, job: Job) -> subprocess.Popen[bytes]:
        """Should two servers do this at once, the second process finds the lock taken and ends."""
        folder = self.store.folder(job.id)
        command = [sys.executable, "-m", "magictailor.studio.jobs.process", str(folder), self.allowed.as_json()]
        with (folder / LOG_FILE).open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=folder
            )
