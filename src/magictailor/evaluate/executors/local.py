"""Units in this process, one after another."""

from collections.abc import Sequence

from magictailor.common.events import Listener
from magictailor.evaluate.executors.context import Context, attempt
from magictailor.evaluate.scheduling import Outcome
from magictailor.evaluate.trials import Unit


class ThisProcess:
    """Its listener hears of every step and image."""

    capacity = 1

    def __init__(self, context: Context, listen: Listener) -> None:
        self._context, self._listen = context, listen
        self._unit: Unit | None = None

    def submit(self, unit: Unit) -> None:
        self._unit = unit

    def wait(self) -> Sequence[Outcome]:
        assert self._unit is not None
        return [attempt(self._unit, self._context, self._listen)]

    def close(self) -> None: ...
