"""Opening files that somebody else wrote: only regular ones, and only as much of them as is bearable."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

MAX_TEXT = 8 * 2**20  # bytes of a text file that a user writes


def open_regular(path: Path) -> BinaryIO:
    """The file, opened for reading; never a folder, a pipe or a device, which may not end.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not a regular file, or not a name that a file can have.
    """
    # Without O_NONBLOCK, opening a named pipe waits for a writer.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("not a regular file")
    return os.fdopen(handle, "rb")


def read_text(path: Path) -> str:
    """A regular text file in UTF-8, with or without a byte order mark.

    Raises:
        OSError: it cannot be opened.
        ValueError: not a regular file, too large, or not UTF-8.
    """
    with open_regular(path) as file:
        data = file.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise ValueError(f"more than {MAX_TEXT // 2**20} MB")
    return data.decode("utf-8-sig")
