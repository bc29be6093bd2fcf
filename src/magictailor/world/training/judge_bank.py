"""The judge's labelled renders, made by worker processes and used as they come, or kept as files."""

import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from magictailor.common.events import Listener, Progress
from magictailor.common.files import write_atomically
from magictailor.common.workers import start_worker
from magictailor.world.captions import full_caption
from magictailor.world.labels import ROW, from_row, held_out_seeds, judge_scene, labelled_rows
from magictailor.world.training.rendering import NICENESS

CHUNK = 100  # renders
ENOUGH = 2_000  # renders to begin with, if the training does not wait for all of them
Rows = NDArray[np.uint8]


def _chunks(first: int, count: int) -> list[tuple[int, int]]:
    return [(start, min(CHUNK, first + count - start)) for start in range(first, first + count, CHUNK)]


def training_rows(first: int, count: int, redraw_every: int) -> Rows:
    """`labelled_rows`; one image in ``redraw_every`` (0: none) is redrawn by the embedded base."""
    rows = labelled_rows(first, count)
    seeds = [seed for seed in range(first, first + count) if redraw_every and seed % redraw_every == 0]
    if seeds:
        from magictailor.world.training.redrawing import redrawn

        chosen = [seed - first for seed in seeds]
        images = np.stack([from_row(rows[i]).image for i in chosen])
        for i, image in zip(chosen, redrawn(images, [full_caption(judge_scene(s)) for s in seeds], seeds), strict=True):
            from_row(rows[i]).image[:] = image
    return rows


def _write_rows(path: Path, first: int, count: int, redraw_every: int) -> Path:
    """Write the rows of these seeds, unless the file exists."""
    if not path.exists():
        rows = training_rows(first, count, redraw_every)

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:  # given a path, numpy would add an extension
                np.save(file, rows)

        write_atomically(path, write)
    return path


class JudgeBank:
    """The first ``ready`` labelled renders of ``seeds``, as rows of bytes (`magictailor.world.labels.Labels.row`).

    ``redraw_every``: one in so many is redrawn by the embedded base; 0: none.
    ``streaming``: rows are kept on the device and more are added during the training. Otherwise all are made first, as
    files in ``folder`` for this and later sessions.
    """

    def __init__(
        self, folder: Path, seeds: range, redraw_every: int, device: torch.device, streaming: bool, workers: int | None
    ) -> None:
        self.folder, self.seeds, self.redraw_every = folder, seeds, redraw_every
        self.device, self.streaming = device, streaming
        self.ready = 0
        self.files: list[Rows] = []
        self.memory = torch.empty((len(seeds), ROW) if streaming else (0, ROW), dtype=torch.uint8, device=device)
        self.pending: set[Future[Rows]] = set()
        # A fork would copy the accelerator's state.
        self.pool = ProcessPoolExecutor(
            workers or os.cpu_count(), get_context("spawn"), initializer=start_worker, initargs=(NICENESS,)
        )

    def close(self) -> None:
        """Stop rendering: jobs that have not begun are cancelled."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def held_out(self, count: int) -> Callable[[], Rows]:
        """Start rendering scenes that no training uses; calling the result waits for them: uint8 [count, ROW]."""
        seeds = held_out_seeds(count)
        jobs = [self.pool.submit(labelled_rows, *chunk) for chunk in _chunks(seeds.start, count)]
        return lambda: np.concatenate([job.result() for job in jobs])

    def wait(self, listen: Listener) -> None:
        """Wait until there are enough renders to begin with."""
        chunks = _chunks(self.seeds.start, len(self.seeds))
        if self.streaming:
            self.pending = {self.pool.submit(training_rows, *chunk, self.redraw_every) for chunk in chunks}
            while self.ready < min(ENOUGH, len(self.seeds)):
                wait(self.pending, return_when=FIRST_COMPLETED)
                self.update()
            listen(Progress("renders", self.ready, len(self.seeds)))
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = [self.folder / f"{first:09d}-{count}.npy" for first, count in chunks]
        jobs = [
            self.pool.submit(_write_rows, path, *chunk, self.redraw_every)
            for path, chunk in zip(paths, chunks, strict=True)
        ]
        for job in jobs:
            self.files.append(np.load(job.result(), mmap_mode="r"))
            self.ready += len(self.files[-1])
            listen(Progress("renders", self.ready, len(self.seeds)))

    def update(self) -> None:
        """Add the rows that are finished; does not wait."""
        if not self.pending:
            return
        done, self.pending = wait(self.pending, timeout=0)
        for job in done:
            rows = torch.from_numpy(job.result())
            self.memory[self.ready : self.ready + len(rows)] = rows.to(self.device)
            self.ready += len(rows)

    def rows(self, numbers: Tensor) -> Tensor:
        """Rows by number (int64 [N], on the CPU, below ``ready``), uint8 [N, ROW] on the device."""
        if self.streaming:
            return self.memory[numbers.to(self.device)]
        chosen = [self.files[i // CHUNK][i % CHUNK] for i in numbers.tolist()]
        return torch.from_numpy(np.stack(chosen)).to(self.device)
