"""Many simulated raters at once, while the server is killed: what was acknowledged must be there, once."""

import asyncio
import json
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from magictailor.study.arrangement import shown_pictures
from magictailor.study.design import Study
from magictailor.study.raters import rater_of
from magictailor.study.store import Store
from studies import free_port, start_server

Key = tuple[str, str, str]  # rater, group, question


@dataclass
class Outcome:
    """What simulated raters saw.

    acknowledged: the last choice and revision of each answer. calm: seconds of requests that were answered at the first
    try; waited: of all answers, tries while the server was down included.
    """

    acknowledged: dict[Key, tuple[str, int]] = field(default_factory=dict)
    calm: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    kills: int = 0

    def p95(self, seconds: Sequence[float]) -> float:
        return float(np.quantile(seconds, 0.95))


class Connection:
    """One rater's HTTP connection, opened anew after an error."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: object) -> tuple[int, dict[str, object]]:
        """Raises OSError or EOFError if the server is gone."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        try:
            writer.write(head.encode() + content)
            await writer.drain()
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:"))
            return int(lines[0].split()[1]), json.loads(await reader.readexactly(length))
        except (OSError, EOFError):
            self.close()
            raise

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def until_answered(connection: Connection, path: str, body: object) -> tuple[int, dict[str, object], int]:
    """As the page does: again until the server answers. Status, body and number of tries."""
    tries = 0
    while True:
        tries += 1
        try:
            status, found = await connection.post(path, body)
            if status < 500:
                return status, found, tries
        except (OSError, EOFError):
            pass
        await asyncio.sleep(random.uniform(0.1, 0.4))


async def rate(study: Study, port: int, answers: int, think: float, outcome: Outcome, rng: random.Random) -> None:
    """One rater: starts, answers, presses some twice and changes some, thinking in between (exponential, seconds)."""
    connection = Connection(port)
    await asyncio.sleep(rng.uniform(0, think))
    _, started, _ = await until_answered(connection, "/start", {"consent": True})
    token = str(started["link"]).removeprefix("/r/")
    rater = rater_of(token)
    todo = [(group, question.name) for group in study.counted for question in study.questions][:answers]
    for group, question in todo:
        for number, choice in enumerate(
            rng.sample(shown_pictures(study, rater, group), 2 if rng.random() < 0.1 else 1), 1
        ):
            await asyncio.sleep(rng.expovariate(1 / think))
            body = {"group": group.name, "question": question, "choice": choice, "revision": number, "seconds": think}
            for _ in range(2 if rng.random() < 0.1 else 1):  # pressed twice
                began = time.monotonic()
                status, found, tries = await until_answered(connection, f"/r/{token}/answers", body)
                seconds = time.monotonic() - began
                assert (status, found.get("revision")) == (200, number), (status, found)
                outcome.acknowledged[rater, group.name, question] = (choice, number)
                outcome.waited.append(seconds)
                if tries == 1:
                    outcome.calm.append(seconds)
    connection.close()


async def kill_and_restart(
    process: subprocess.Popen[bytes],
    folder: Path,
    port: int,
    database: str | None,
    kills: int,
    pause: float,
    outcome: Outcome,
) -> subprocess.Popen[bytes]:
    for _ in range(kills):
        await asyncio.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
        outcome.kills += 1
        process = await asyncio.to_thread(start_server, folder, port, database)
    return process


def run_load(
    study: Study,
    folder: Path,
    database: str | None,
    *,
    raters: int,
    answers: int,
    kills: int,
    think: float,
    pause: float,
) -> Outcome:
    """Raters answer at once while the server is killed every ``pause`` seconds; returns what they saw."""
    outcome, port = Outcome(), free_port()
    process = start_server(folder, port, database)

    async def everything() -> subprocess.Popen[bytes]:
        people = [rate(study, port, answers, think, outcome, random.Random(number)) for number in range(raters)]
        killer = asyncio.create_task(kill_and_restart(process, folder, port, database, kills, pause, outcome))
        await asyncio.gather(*people)
        return await killer

    last = asyncio.run(everything())
    last.send_signal(signal.SIGTERM)
    last.wait(30)
    return outcome


def lost_and_double(study: Study, folder: Path, database: str | None, outcome: Outcome) -> tuple[int, int]:
    """The numbers of acknowledged answers that are not in the database, and of answers there that were not given once."""
    store = Store(study, folder, database)
    stored = {(a.rater, a.group, a.question): (a.choice, a.revision) for a in store.answers()}
    rows = len(store.answers())
    store.close()
    lost = sum(stored.get(key) != value for key, value in outcome.acknowledged.items())
    return lost, rows - len(outcome.acknowledged)
