"""The bank of pictures: drawn by worker processes into files, taken in by the training as they come."""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor
from torch.nn.functional import max_pool2d

from magictailor.world.training.drawing import HELD_OUT, Chunk, begin_worker, draw_to, read_chunk

# How much scenery counts, whose snowflakes and leaves nobody can predict, and what things and their surroundings add.
SCENERY, THING = 0.5, 1.5
REACH = 2  # latents
Progress = Callable[[int, int], None]
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {k: os.environ.get(k) for k in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


class Bank:
    """Chunks of the pictures with seeds 0 .. ``count - 1`` and of ``held_out`` more, drawn in the background.

    Files that an earlier run left are used. ``keep``: whether a file stays when it has been taken in. ``skip``: go on
    without a chunk that could not be drawn, instead of raising.
    """

    def __init__(
        self, folder: Path, count: int, captions: int, held_out: int, chunk: int, workers: int, keep: bool, skip: bool
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.count, self.keep, self.skip = folder, count, keep, skip
        self._held = self._plan(HELD_OUT, held_out, max(1, min(chunk, -(-held_out // workers))))
        self._train = self._plan(0, count, chunk)
        self._jobs: dict[Path, Future[Path]] = {}
        self._pool: ProcessPoolExecutor | None = None
        missing = [job for job in (*self._held, *self._train) if not job[0].exists()]
        if missing:
            context = multiprocessing.get_context("spawn")  # a fork would take the accelerator's state along
            self._pool = ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker)
            with _environment(ONE_THREAD):
                for path, first, size in missing:
                    self._jobs[path] = self._pool.submit(draw_to, path, first, size, captions)

    def _plan(self, first: int, count: int, chunk: int) -> list[tuple[Path, int, int]]:
        starts = range(first, first + count, chunk)
        sizes = [min(chunk, first + count - s) for s in starts]
        return [(self.folder / f"{s:010d}-{n}.npz", s, n) for s, n in zip(starts, sizes, strict=True)]

    def _take(self, job: tuple[Path, int, int]) -> Chunk:
        path = job[0]
        if path in self._jobs:
            self._jobs.pop(path).result()
        chunk = read_chunk(path)
        if not self.keep:
            path.unlink()
        return chunk

    def held_out(self) -> list[Chunk]:
        """Waits for the held-out pictures."""
        return [self._take(job) for job in self._held]

    def ready(self) -> bool:
        """Whether `next` would give a chunk at once."""
        if not self._train:
            return False
        job = self._jobs.get(self._train[0][0])
        return job is None or job.done()

    def next(self) -> Chunk | None:
        """The next chunk in the order of seeds; waits for it. None after the last."""
        while self._train:
            job = self._train.pop(0)
            try:
                return self._take(job)
            except Exception:
                if not self.skip:
                    raise
                print(f"{job[0].name} could not be drawn:\n{traceback.format_exc(limit=3)}", flush=True)
        return None

    def close(self) -> None:
        """Stop drawing: what has not begun is given up, and the workers end."""
        if self._pool is not None:
            processes = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            self._pool = None


def to_pixels(pictures: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] to float [N, 3, H, W] in [-1, 1], on the same device."""
    return pictures.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def importance(inside: Tensor) -> Tensor:
    """How much each latent's error counts, float16 [N, 1, 16, 16], from its coverage by things, uint8 [N, 16, 16].

    Things count most, with all that lies so near that a part of them could be there. A weight that followed the parts
    themselves would teach too many: where a tail may be left or right, an error where there is one would cost more
    than an error where there is none, and the best guess would be two tails. The average over many pictures is near 1.
    """
    near = max_pool2d(inside[:, None].float() / 255, 2 * REACH + 1, stride=1, padding=REACH)
    return (SCENERY + THING * near).half()
