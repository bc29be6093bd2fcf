"""What a command prints, on any terminal, into any pipe."""

import codecs
import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from magictailor.common.launcher import is_printing_process
from magictailor.common.text import printable

PLAIN = {
    "\u2191": "^", "\u2193": "v", "\u2192": "->", "\u2190": "<-", "\u2026": "...", "\u00d7": "x", "\u00b1": "+-",
    "\u2212": "-", "\u2013": "-", "\u2014": "-", "\u2022": "*",
}  # fmt: skip


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """In a console without Unicode: signs of tables in plain letters, all else as a question mark."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error("plainly", _plainly)


class Output:
    """A text stream that never ends a command: what nobody reads any more is dropped.

    Attributes:
        failure: why nothing more was written; None as long as all was.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """``stream``: None where Python has none, because the shell has closed it."""
        self._stream = stream or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (as long as the command)
        self.failure: OSError | None = None
        if hasattr(self._stream, "reconfigure"):
            with suppress(ValueError, OSError):
                self._stream.reconfigure(errors="plainly")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def is_lost(self) -> bool:
        """Whether something could not be written though a reader waits for it: a full disk, for instance."""
        return self.failure is not None and self.failure.errno not in (errno.EPIPE, errno.EIO, errno.EBADF)

    def _fail(self, error: OSError) -> None:
        self.failure = error
        with suppress(OSError, ValueError, AttributeError):  # or Python complains when it flushes at its end
            handle = os.open(os.devnull, os.O_WRONLY)
            os.dup2(handle, self._stream.fileno())
            os.close(handle)

    def write(self, text: str) -> int:
        if self.failure is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._fail(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self.failure is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(error)


class PlainConsole(Console):
    """Prints names of files as they are: no markup, and no escape sequence that a file brings along."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(
            markup=False, highlight=False, stderr=stderr, soft_wrap=soft_wrap, quiet=not is_printing_process()
        )

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **options)
