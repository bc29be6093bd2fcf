"""What 50 open pages cost a training: steps a second without and with them, in turns, within one run.

    python benchmarks/studio_load.py --output DIR [--tabs 50] [--window 20] [--turns 6]

A page is a connection that reads the stream of events, as the real page does. Prints the mean of each kind of window and the
ratio. Exit code 1 if the pages cost 5 % or more.
"""

import argparse
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

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


def speed(metrics: Path, seconds: float) -> float:
    """Steps a second, from the end of one step to the end of another."""

    def next_step() -> tuple[int, float]:
        before = metrics.read_bytes().count(b"\n")
        while (now := metrics.read_bytes().count(b"\n")) == before:
            time.sleep(0.01)
        return now, time.monotonic()

    first, began = next_step()
    time.sleep(seconds)
    last, ended = next_step()
    return (last - first) / (ended - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tabs", type=int, default=50)
    parser.add_argument("--window", type=float, default=20)
    parser.add_argument("--turns", type=int, default=6)
    options = parser.parse_args()
    studio = Studio(options.output)
    job = studio.submit(TrainSpec(pair=studio.demo_pair(), settings=SETTINGS)).job.id
    metrics = run_folder(studio.jobs.folder(job)) / "metrics.jsonl"
    command = [sys.executable, "-m", "magictailor", "studio", str(options.output), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = next(line.strip() for line in server.stdout if line.startswith("http"))
        try:
            while not metrics.exists() or metrics.read_bytes().count(b"\n") < 5:
                time.sleep(0.2)
            alone, watched, read = [], [], 0
            for _ in range(options.turns):
                alone.append(speed(metrics, options.window))
                tabs = Tabs(address, options.tabs)
                time.sleep(1)
                watched.append(speed(metrics, options.window))
                tabs.close()
                read += tabs.read
                print(f"alone {alone[-1]:.3f}, watched {watched[-1]:.3f} steps a second", flush=True)
        finally:
            studio.jobs.act(job, "stop")
            while studio.jobs.status(job).state in ("running", "stopping"):
                time.sleep(0.2)
            server.terminate()
    ratio = statistics.mean(watched) / statistics.mean(alone)
    print(f"{options.tabs} pages read {read} bytes; with them {ratio:.3f} of the speed without")
    sys.exit(ratio <= 0.95)


if __name__ == "__main__":
    main()
