"""Processes of this machine that work for this one. Light: what a worker imports before it is quiet would be heard."""

import os
import threading
from multiprocessing import connection, parent_process

from magictailor.common.logging import quiet_libraries


def _end_with_parent() -> None:
    """End this process when its parent ends, even by SIGKILL: two would work in one folder otherwise."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def start_worker(niceness: int = 0) -> None:
    """Called first in each worker: what it has to say, it returns; ``niceness`` lowers its priority."""
    quiet_libraries()
    if niceness:
        os.nice(niceness)
    threading.Thread(target=_end_with_parent, daemon=True).start()
