"""What changes on disk while jobs run, read once and sent to every open page.

One thread reads each file of a running job as it grows; pages get the same bytes. However many pages are open, a job is
neither asked nor slowed.
"""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from magictailor.common.events import log
from magictailor.common.files import json_lines
from magictailor.studio.jobs.job import ENDED, EVENTS_FILE, IMAGES_FILE, State, run_folder
from magictailor.studio.jobs.store import JobStore, Status
from magictailor.training.run_folder import METRICS_FILE, kept_steps

POLL = 0.25  # seconds
ALIVE = 15.0  # seconds between signs of life, which keep proxies from closing the stream
POINTS = 1500  # of a curve that a page gets


class Tail:
    """The new complete lines of a file that another process appends to, or replaces by a shorter one."""

    def __init__(self, path: Path) -> None:
        self.path, self._inode, self._offset = path, 0, 0

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """Whether the file began anew since the last call, and its new rows."""
        try:
            with self.path.open("rb") as file:
                found = _status(file.fileno())
                anew = found[0] != self._inode or found[1] < self._offset
                if anew:
                    self._inode, self._offset = found[0], 0
                elif found[1] == self._offset:
                    return False, []
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return False, []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return anew, json_lines(whole.decode("utf-8", "replace"))


def _status(file: int) -> tuple[int, int]:
    """Inode and size."""
    status = os.fstat(file)
    return status.st_ino, status.st_size


def run_facts(folder: Path) -> dict[str, Any]:
    """What a page shows of a training's run: words, steps, the first step of each phase, seconds; empty: none yet."""
    try:
        tree = json.loads((run_folder(folder) / "run.json").read_text("utf-8"))
        phases = [phase["steps"] for phase in tree["recipe"]["phases"]]
        images = [image for sample in tree["pair"]["samples"] for image in sample["images"]]
        return {
            "photos": len(images),
            "words": {s["word"]: s["label"] for s in tree["pair"]["samples"]},
            "method": tree["recipe"]["method"], "model": tree["model"], "steps": sum(phases),
            "phases": [sum(phases[:n]) for n in range(len(phases))], "seconds": tree["seconds"],
            "finished": tree["finished"], "sampling": tree["recipe"]["sampling"], "precision": tree["precision"],
            "preset": tree["preset"], "peak_gb": tree.get("peak_gb"), "checkpoints": kept_steps(run_folder(folder)),
        }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def previews(folder: Path) -> dict[int, list[str]]:
    """The files of each step's preview, by step."""
    found: dict[int, list[str]] = {}
    for path in sorted((run_folder(folder) / "previews").glob("*-*.png")):
        found.setdefault(int(path.stem.split("-")[0]), []).append(path.name)
    return found


def curves(folder: Path, points: int = POINTS) -> dict[str, Any]:
    """The metrics so far, column by column; of a long run, means over equal numbers of steps."""
    _, rows = Tail(run_folder(folder) / METRICS_FILE).read()
    every = -(-len(rows) // points) if rows else 1
    groups = [rows[i : i + every] for i in range(0, len(rows), every)]
    names = sorted({name for row in rows for name in row})
    columns = {name: [_mean([row[name] for row in group if name in row], name) for group in groups] for name in names}
    return {"count": len(rows), "every": every, "columns": columns, "last": rows[-1] if rows else None}


def _mean(values: list[float], name: str) -> float | None:
    if not values:
        return None
    return values[-1] if name in ("step", "worst") else sum(values) / len(values)


def _event(name: str, value: Any) -> bytes:
    """A server-sent event."""
    return f"event: {name}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


class _Watched:
    """What has been read of one job so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics, self.events = Tail(run_folder(folder) / METRICS_FILE), Tail(folder / EVENTS_FILE)
        self.images = Tail(folder / IMAGES_FILE)
        self.progress: dict[str, Any] = {}
        self.sent: tuple[str, str] = "", ""  # a job without its progress, and its progress, as pages know them
        self.ended: Status | None = None  # what was sent last, of a job that has ended

    def news(self, id: str) -> list[tuple[str, Any]]:
        """Messages for pages: (name, value)."""
        messages: list[tuple[str, Any]] = []
        anew, rows = self.metrics.read()
        if rows or anew:
            messages.append(("metrics", {"id": id, "anew": anew, "rows": rows[-POINTS:]}))
            if rows:
                self.progress = {"task": "training", "done": rows[-1]["step"] + 1}
        for event in self.events.read()[1]:
            messages += self._event(id, event)
        _, images = self.images.read()
        if images:
            messages.append(("images", {"id": id, "rows": images}))
        return messages

    def _event(self, id: str, event: dict[str, Any]) -> list[tuple[str, Any]]:
        kind = event.get("kind")
        if kind == "Started":
            self.progress = {}
        elif kind == "Progress":
            self.progress = {k: event[k] for k in ("task", "done", "total")}
        elif kind == "Notice":
            self.progress = {**self.progress, "note": event["text"]}
        elif kind == "PreviewSaved":
            return [("preview", {"id": id, "step": event["step"], "files": event["files"]})]
        elif kind == "CheckpointSaved":
            self.progress = {**self.progress, "saved": event["step"]}
        return []


class Live:
    """Watches jobs and tells every subscriber. `start` it in the server's loop."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self._watched: dict[str, _Watched] = {}
        self._subscribers: set[asyncio.Queue[bytes | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closed.clear()
        threading.Thread(target=self._run, name="live", daemon=True).start()

    def close(self) -> None:
        """Ends all streams."""
        self._closed.set()
        for queue in list(self._subscribers):
            queue.put_nowait(None)

    def describe(self, found: Status) -> dict[str, Any]:
        """A job as pages get it."""
        job, ending = found.job, found.ending
        watched = self._watched.get(job.id)
        folder = self.store.workspace.jobs / job.id
        facts = run_facts(folder) if job.spec.kind == "train" else {}
        progress = dict(watched.progress) if watched else {}
        if facts and progress.get("task") == "training":
            progress["total"] = facts["steps"]
        return {
            "id": job.id, "title": job.title, "kind": job.spec.kind, "state": found.state, "actions": found.actions,
            "order": job.order, "created": job.created, "attempt": job.attempt, "spec": job.spec.model_dump(mode="json"),
            "progress": progress, "message": ending.message if ending else "", "fix": ending.fix if ending else "",
            "result": ending.result if ending else {}, "run": facts,
        }  # fmt: skip

    def describe_all(self) -> list[dict[str, Any]]:
        with self._lock:
            return [self.describe(found) for found in self.store.statuses()]

    def publish(self, *messages: tuple[str, Any]) -> None:
        """Tell every open page, all in one piece; from any thread."""
        data = b"".join(_event(name, value) for name, value in messages)
        if data and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, data)

    def _tell(self, data: bytes) -> None:
        for queue in self._subscribers:
            if queue.qsize() > 500:  # a page that does not read: it is told to start again
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(b"event: anew\ndata: {}\n\n")
            queue.put_nowait(data)

    async def stream(self) -> AsyncIterator[bytes]:
        """Server-sent events: first all jobs, then what changes."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._subscribers.add(queue)
        try:
            jobs = await asyncio.to_thread(self.describe_all)
            yield b"retry: 1000\n" + _event("jobs", jobs)
            while not self._closed.is_set():
                try:
                    data = await asyncio.wait_for(queue.get(), ALIVE)
                except TimeoutError:
                    data = b": alive\n\n"
                if data is None:
                    return
                yield data
        finally:
            self._subscribers.discard(queue)

    def _run(self) -> None:
        while not self._closed.wait(POLL):
            try:
                self._look()
            except Exception:  # a file that goes while it is read; the next look finds it, and pages must hear of it
                log.warning("the studio could not read its jobs", exc_info=True)

    def _look(self) -> None:
        with self._lock:
            seen: set[str] = set()
            messages: list[tuple[str, Any]] = []
            for found in self.store.statuses():
                seen.add(found.job.id)
                messages += self._news(found)
            for id in set(self._watched) - seen:
                del self._watched[id]
                messages.append(("gone", {"id": id}))
            self.publish(*messages)

    def _news(self, found: Status) -> list[tuple[str, Any]]:
        id = found.job.id
        new = id not in self._watched
        watched = self._watched.setdefault(id, _Watched(self.store.workspace.jobs / id))
        state: State = found.state
        if watched.ended is found:  # the store gives the same object while nothing changes
            return []
        messages = watched.news(id)
        if new:
            messages = []  # what was there before: pages read it when they need it
        described = self.describe(found)
        watched.ended = found if state in ENDED else None
        before, progress = watched.sent, described["progress"]
        watched.sent = json.dumps({**described, "progress": None}), json.dumps(progress)
        if watched.sent[0] != before[0]:
            messages.append(("job", described))
        elif watched.sent[1] != before[1]:  # each step: as little as can be
            messages.append(("progress", {"id": id, "progress": progress}))
        return messages
