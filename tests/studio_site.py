"""A studio whose processes are killed at random: the real command, its jobs, and what must be true afterwards."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from magictailor.studio.jobs.job import run_folder
from magictailor.studio.jobs.store import status_of

SHORT = (
    "phases.0.steps=4", "phases.1.steps=4", "sampling.steps=2", "sampling.preview_every=0", "sampling.keep_every=3",
)  # fmt: skip
RESULTS = ("pytorch_lora_weights.safetensors", "words.safetensors", "metrics.jsonl")
FAULTS = ("job", "server", "both")


class Site:
    """A studio served by the real command in processes that can be killed. ``environment`` is added to theirs."""

    def __init__(self, root: Path, environment: Mapping[str, str] | None = None) -> None:
        self.root, self.environment = root, {**os.environ, **(environment or {})}
        self.server: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        command = [sys.executable, "-m", "magictailor", "studio", str(self.root), "--port", "0", "--no-open", *options]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.environment)
        assert self.server.stdout is not None
        address = next((line.strip() for line in self.server.stdout if line.startswith("http")), None)
        assert address is not None, "the studio did not start"
        parts = urlsplit(address)
        self.base, self.token = f"http://{parts.netloc}/api", parts.query.removeprefix("token=")

    def ask(self, path: str, body: object = None) -> Any:
        """The answer; ``{"status": ..., "problem": ...}`` for a refusal."""
        headers = {"Authorization": f"Bearer {self.token}", "x-studio": "1", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.base + path, content, headers), timeout=120) as got:
                return json.load(got)
        except urllib.error.HTTPError as error:
            return {"status": error.code, **json.load(error)}

    def kill_server(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.server.wait()

    def kill_job(self) -> str | None:
        """SIGKILL of the job that is running; its id, or None if none is."""
        for folder in sorted((self.root / "jobs").glob("0*")):
            found = status_of(folder)
            if found.state in ("running", "pausing", "stopping") and found.ending is not None and found.ending.pid:
                os.killpg(found.ending.pid, signal.SIGKILL)
                return folder.name
        return None

    def states(self, ids: Sequence[str]) -> dict[str, str]:
        return {id: status_of(self.root / "jobs" / id).state for id in ids}

    def close(self) -> None:
        if self.server is not None and self.server.poll() is None:
            self.server.terminate()
            self.server.wait(30)


def wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited in vain: {what}"
        time.sleep(0.1)


def queue(site: Site, pair: str, count: int, seeds: int) -> dict[str, int]:
    """Queue trainings; the ids that were acknowledged, with their seeds."""
    acknowledged = {}
    for number in range(count):
        spec = {"kind": "train", "pair": pair, "settings": [*SHORT, f"seed={number % seeds}"]}
        acknowledged[site.ask("/jobs", {"spec": spec})["id"]] = number % seeds
    return acknowledged


def results(root: Path, id: str) -> dict[str, bytes]:
    """All bytes that a training has made, its kept checkpoints included."""
    run = run_folder(root / "jobs" / id)
    kept = sorted((run / "checkpoints").glob("*/*.safetensors"))
    assert kept
    return {str(path.relative_to(run)): path.read_bytes() for path in [*(run / name for name in RESULTS), *kept]}


def disturb(site: Site, ids: Sequence[str], faults: Sequence[str], pause: Callable[[], float]) -> None:
    """Kill as ``faults`` say, ``pause`` seconds apart, and go on with what was cut short, until all trainings are done."""
    for fault in faults:
        time.sleep(pause())
        if all(state == "done" for state in site.states(ids).values()):
            return
        if fault in ("server", "both"):
            site.kill_server()
        killed = site.kill_job() if fault in ("job", "both") else None
        if killed is not None:  # its state is known at once, whether a server lives or not
            wait(lambda: status_of(site.root / "jobs" / killed).state in ("interrupted", "done"), 10, f"{killed} ended")  # noqa: B023
        if fault in ("server", "both"):
            site.start("--resume")
        elif killed is not None:
            site.ask("/jobs/resume", {})
    until = time.monotonic() + 600 * len(ids)
    while any(state != "done" for state in site.states(ids).values()):
        states = site.states(ids)
        assert not set(states.values()) - {"queued", "running", "done"}, states
        assert time.monotonic() < until, states
        time.sleep(0.5)


def at_random(count: int, seed: int = 0, longest: float = 12.0) -> tuple[list[str], Callable[[], float]]:
    """So many faults of all kinds, and pauses between them that fall into loading, training and saving alike."""
    draw = random.Random(seed)
    return [draw.choice(FAULTS) for _ in range(count)], lambda: draw.uniform(0.2, longest)
