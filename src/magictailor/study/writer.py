"""One thread that writes: what came in while it was busy goes into the next transaction together.

So an answer waits for one commit, however many raters there are, and is acknowledged after it.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from magictailor.study.database import Connection
from magictailor.study.store import Store

MAX_BATCH = 500
Result = TypeVar("Result")
Work = Callable[[Connection], Result]


class Writer:
    """Runs work on the database in the order it came, several pieces in one transaction."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.waiting: queue.SimpleQueue[tuple[Work[object], Future[object]] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.thread.start()

    async def write(self, work: Work[Result]) -> Result:
        """The work's result, after its transaction is on disk. Raises what the work or the database raised."""
        future: Future[Result] = Future()
        self.waiting.put((work, future))  # type: ignore[arg-type]
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Finish what waits, then stop."""
        self.waiting.put(None)
        self.thread.join()

    def _run(self) -> None:
        while (first := self.waiting.get()) is not None:
            batch, stop = [first], False
            while len(batch) < MAX_BATCH and not self.waiting.empty():
                item = self.waiting.get()
                if item is None:
                    stop = True
                    break
                batch.append(item)
            self._write(batch)
            if stop:
                return

    def _write(self, batch: list[tuple[Work[object], Future[object]]]) -> None:
        try:
            with self.store.writing() as connection:
                results = [work(connection) for work, _ in batch]
        except Exception as error:
            if len(batch) == 1:
                _settle(batch[0][1], error=error)
                return
            for item in batch:  # one piece of work must not fail the others
                self._write([item])
            return
        for (_, future), result in zip(batch, results, strict=True):
            _settle(future, result)


def _settle(future: Future[object], result: object = None, error: BaseException | None = None) -> None:
    if not future.set_running_or_notify_cancel():
        return  # the rater has gone; the answer is stored all the same
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
