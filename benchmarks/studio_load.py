"""What 50 open pages cost a training, in turns without and with them, within one run.

    python benchmarks/studio_load.py --output DIR [--tabs 50] [--window 12] [--turns 16]

A page is a connection that reads the stream of events, as the real page does. Three measures, as wall time means little where others
work on the same cores: steps a second; the processor time that the training itself takes for a step; and the processor time of the
server, which the training cannot have, as a share of all cores. Each turn is a window without and one with pages, in changing order;
what is said is the mean of the turns' ratios with its 95 % interval. Exit code 1 if training is more than 5 % slower by the mean.
"""

import argparse
import os
import socket
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from scipy import stats
from studio_pages import served

from magictailor.studio.jobs.job import run_folder
from magictailor.studio.studio import Studio, TrainSpec

SETTINGS = ("phases.0.steps=100000", "sampling.preview_every=0")


class Tabs:
    """Open streams, read by one thread; ``read`` counts their bytes."""

    def __init__(self, address: str, count: int) -> None:
        parts = urlsplit(address)
        token = parts.query.removeprefix("token=")
        request = f"GET /api/events HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
        self.sockets = [socket.create_connection((parts.hostname or "", parts.port or 0)) for _ in range(count)]
        self.read = 0
        for each in self.sockets:
            each.sendall(request.encode())
            each.setblocking(False)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(0.2):
            for each in self.sockets:
                try:
                    self.read += len(each.recv(2**20))
                except BlockingIOError:
                    continue

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        for each in self.sockets:
            each.close()


@dataclass(frozen=True)
class Window:
    """Steps a second; the training's processor seconds a step; the server's share of all cores."""

    speed: float
    step: float
    server: float


def processor_seconds(pid: int) -> float:
    """Of a process with all its threads, so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def window(metrics: Path, training: int, server: int, seconds: float) -> Window:
    """From the end of one step to the end of another."""

    def next_step() -> tuple[int, float, float, float]:
        before = metrics.read_bytes().count(b"\n")
        while (now := metrics.read_bytes().count(b"\n")) == before:
            time.sleep(0.01)
        return now, time.monotonic(), processor_seconds(training), processor_seconds(server)

    first = next_step()
    time.sleep(seconds)
    last = next_step()
    steps, wall, busy, served = (after - before for after, before in zip(last, first, strict=True))
    return Window(steps / wall, busy / steps, served / wall / (os.cpu_count() or 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tabs", type=int, default=50)
    parser.add_argument("--window", type=float, default=12)
    parser.add_argument("--turns", type=int, default=16)
    options = parser.parse_args()
    studio = Studio(options.output)
    job = studio.submit(TrainSpec(pair=studio.demo_pair(), settings=SETTINGS)).job.id
    metrics = run_folder(studio.jobs.folder(job)) / "metrics.jsonl"
    with served(options.output) as (address, server):
        try:
            while not metrics.exists() or metrics.read_bytes().count(b"\n") < 5:
                time.sleep(0.2)
            ending = studio.jobs.status(job).ending
            assert ending is not None
            training, read = ending.pid, 0
            alone, watched = list[Window](), list[Window]()
            for turn in range(options.turns):
                for with_pages in (turn % 2 == 0, turn % 2 == 1):
                    tabs = Tabs(address, options.tabs if with_pages else 0)
                    time.sleep(1)
                    (watched if with_pages else alone).append(window(metrics, training, server, options.window))
                    tabs.close()
                    read += tabs.read
                print(f"alone {alone[-1]}\nwatched {watched[-1]}", flush=True)
        finally:
            studio.jobs.act(job, "stop")
            while studio.jobs.status(job).state in ("running", "stopping"):
                time.sleep(0.2)
    print(f"{options.tabs} pages read {read} bytes")
    slower = 1.0
    for name in ("speed", "step", "server"):
        pairs = [(getattr(a, name), getattr(w, name)) for a, w in zip(alone, watched, strict=True)]
        one, other = (statistics.median(values) for values in zip(*pairs, strict=True))
        logs = np.log([w / a for a, w in pairs if a and w])
        half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
        mean, low, high = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
        print(f"{name}: {one:.4f} alone, {other:.4f} watched, {mean:.3f} times ({low:.3f} to {high:.3f})")
        slower = mean if name == "speed" else slower
    sys.exit(int(slower < 0.95))


if __name__ == "__main__":
    main()
