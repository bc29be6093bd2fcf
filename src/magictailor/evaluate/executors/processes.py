"""Units in several processes of this machine."""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from magictailor.common.workers import start_worker
from magictailor.evaluate.executors.context import Context, attempt
from magictailor.evaluate.scheduling import Outcome
from magictailor.evaluate.trials import Unit

PATIENCE = 1.0  # seconds that `wait` waits at most


class LocalProcesses:
    """``count`` pools of one process each, so that a process that dies says which unit it had."""

    def __init__(self, context: Context, count: int) -> None:
        self._context = context
        self._pools = [self._pool() for _ in range(count)]
        self._at_work: dict[Future[Outcome], tuple[Unit, int]] = {}

    @staticmethod
    def _pool() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, get_context("spawn"), start_worker)

    @property
    def capacity(self) -> int:
        return len(self._pools)

    def submit(self, unit: Unit) -> None:
        busy = {number for _, number in self._at_work.values()}
        number = next(i for i in range(len(self._pools)) if i not in busy)
        try:
            future = self._pools[number].submit(attempt, unit, self._context)
        except BrokenProcessPool:  # it died after its last unit
            self._pools[number] = self._pool()
            future = self._pools[number].submit(attempt, unit, self._context)
        self._at_work[future] = (unit, number)

    def wait(self) -> Sequence[Outcome]:
        finished, _ = wait(self._at_work, PATIENCE, FIRST_COMPLETED)
        outcomes = []
        for future in finished:
            unit, number = self._at_work.pop(future)
            try:
                outcomes.append(future.result())
            except BrokenProcessPool:
                self._pools[number] = self._pool()
                outcomes.append(Outcome(unit, lost=True))
        return outcomes

    def close(self) -> None:
        """Idle workers end by themselves, so that they clean up; those at work are ended."""
        busy = {number for _, number in self._at_work.values()}
        for number, pool in enumerate(self._pools):
            for process in (pool._processes or {}).values() if number in busy else ():
                process.terminate()
            pool.shutdown(wait=number not in busy, cancel_futures=True)
