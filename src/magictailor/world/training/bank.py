"""The bank of renders: worker processes write them into files, the training takes them in as they come."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor
from torch.nn.functional import max_pool2d

from magictailor.common.events import Listener, Notice, ignore
from magictailor.common.workers import start_worker
from magictailor.world.training.rendering import HELD_OUT, NICENESS, Chunk, read_chunk, write_chunk

# Loss weights: of scenery, which has details that cannot be predicted (snowflakes, leaves), and what subjects add to it.
SCENERY, SUBJECT = 0.5, 1.5
REACH = 2  # latents
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables inside the block; processes read them when they start."""
    before = {k: os.environ.get(k) for k in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


class Bank:
    """Chunks of ``count`` renders with successive seeds from ``first`` and of ``held_out`` more, made in the background.

    Files of an earlier session are used. With no ``workers``, another training that uses the same folder makes them.
    ``keep``: whether a file stays after it was taken in. ``skip``: leave out a chunk that fails, with a notice, instead
    of raising.
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        captions: int,
        held_out: int,
        chunk: int,
        workers: int,
        *,
        keep: bool,
        skip: bool,
        first: int = 0,
        listen: Listener = ignore,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.keep, self.skip, self.listen = folder, keep, skip, listen
        self._held = self._plan(HELD_OUT, held_out, min(chunk, 32))
        self._train = self._plan(first, count, chunk)
        self._jobs: dict[Path, Future[Path]] = {}
        self._pool: ProcessPoolExecutor | None = None
        missing = [job for job in (*self._held, *self._train) if not job[0].exists()]
        if missing and workers:
            context = multiprocessing.get_context("spawn")  # a fork would copy the accelerator's state
            self._pool = ProcessPoolExecutor(
                workers, mp_context=context, initializer=start_worker, initargs=(NICENESS,)
            )
            with environment(ONE_THREAD):
                for path, first, size in missing:
                    self._jobs[path] = self._pool.submit(write_chunk, path, first, size, captions)

    def _plan(self, first: int, count: int, chunk: int) -> list[tuple[Path, int, int]]:
        starts = range(first, first + count, chunk)
        sizes = [min(chunk, first + count - s) for s in starts]
        return [(self.folder / f"{s:010d}-{n}.npz", s, n) for s, n in zip(starts, sizes, strict=True)]

    def _take(self, job: tuple[Path, int, int]) -> Chunk:
        path = job[0]
        if path in self._jobs:
            self._jobs.pop(path).result()
        while not path.exists():
            time.sleep(0.05)
        chunk = read_chunk(path)
        if not self.keep:
            path.unlink()
        return chunk

    def held_out(self) -> list[Chunk]:
        """Wait for the held-out renders."""
        return [self._take(job) for job in self._held]

    def ready(self) -> bool:
        """Whether `next` would return a chunk at once."""
        if not self._train:
            return False
        path = self._train[0][0]
        return self._jobs[path].done() if path in self._jobs else path.exists()

    def next(self) -> Chunk | None:
        """The next chunk in the order of seeds; waits for it. None after the last."""
        while self._train:
            job = self._train.pop(0)
            try:
                return self._take(job)
            except Exception as error:
                if not self.skip:
                    raise
                self.listen(Notice(f"{job[0].name}: left out, rendering failed ({error!r})", warning=True))
        return None

    def close(self) -> None:
        """Stop rendering: jobs that have not begun are cancelled, and the workers end."""
        if self._pool is not None:
            processes = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            self._pool = None


def loss_weights(inside: Tensor) -> Tensor:
    """The loss weight of each latent, float16 [N, 1, 16, 16], from its coverage by subjects, uint8 [N, 16, 16].

    Latents near a subject weigh as much as the subject. Weights that followed the subject exactly would favour a second
    copy: where a tail may be left or right, a missing one would cost more than a superfluous one. The average over
    many renders is near 1.
    """
    near = max_pool2d(inside[:, None].float() / 255, 2 * REACH + 1, stride=1, padding=REACH)
    return (SCENERY + SUBJECT * near).half()
