"""What open pages are told: each change once, and of a step as little as can be."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from magictailor.studio.jobs import ExportSpec, JobStore
from magictailor.studio.jobs.job import EVENTS_FILE
from magictailor.studio.live import Live
from magictailor.studio.workspace import Workspace


def heard(chunk: bytes) -> list[tuple[str, Any]]:
    """The events in what a page has received."""
    found = []
    for text in chunk.decode().strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in text.splitlines())
        found.append((fields["event"], json.loads(fields["data"])))
    return found


def test_pages_hear_of_a_change_once_and_of_progress_alone(tmp_path: Path) -> None:
    store = JobStore(Workspace(tmp_path))
    live = Live(store)
    job = store.add(ExportSpec(run="00001-train", formats=("kohya",)), "one").job.id

    def append(**event: object) -> None:
        with (store.folder(job) / EVENTS_FILE).open("a") as file:
            file.write(json.dumps(event) + "\n")

    async def next_of(page: AsyncIterator[bytes], number: int = 1) -> list[tuple[str, Any]]:
        events: list[tuple[str, Any]] = []
        while len(events) < number:
            events += heard(await anext(page))
        return events

    async def listen() -> list[list[list[tuple[str, Any]]]]:
        pages = [live.stream(), live.stream()]
        rounds = [[await next_of(page) for page in pages]]
        live.start()
        rounds.append([await next_of(page) for page in pages])  # of the first look
        append(kind="Progress", task="exporting", done=1, total=2)
        rounds.append([await next_of(page) for page in pages])
        store.add(ExportSpec(run="00001-train", formats=("kohya",)), "two")
        append(kind="Progress", task="exporting", done=2, total=2)
        rounds.append([await next_of(page, 2) for page in pages])
        live.close()
        return rounds

    rounds = asyncio.run(asyncio.wait_for(listen(), 60))
    assert [one for one, _ in rounds] == [other for _, other in rounds]
    jobs, first, progress, both = (one for one, _ in rounds)
    assert [(name, [row["title"] for row in rows]) for name, rows in jobs] == [("jobs", ["one"])]
    assert [(name, value["title"]) for name, value in first] == [("job", "one")]
    assert progress == [("progress", {"id": job, "progress": {"task": "exporting", "done": 1, "total": 2}})]
    last = sorted((name, value.get("title"), value["progress"].get("done")) for name, value in both)
    assert last == [("job", "two", None), ("progress", None, 2)]
