"""How a command ends: one line on stderr, and an exit code that says whose turn it is."""

import errno
import os
import platform
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from magictailor.common.cache import cache_folder
from magictailor.common.errors import InputError, RunError, RunStopped
from magictailor.common.launcher import is_printing_process
from magictailor.common.text import one_line

FAILED, MISTAKE, BUG, INTERRUPTED, TERMINATED = 1, 2, 70, 130, 143
RESUMED = ("train", "demo", "bench run", "world train", "world train-judge")  # commands that go on where they stopped
SHORT = "out of memory; ask for less at a time, or close other programs"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG)

# Where the command line's spelling of an argument differs from its name with dashes.
SPELLINGS = {
    "": "", "compiled": "--compile", "loras": "--lora", "settings": "--set", "scheduler_name": "--scheduler", "pair": "PAIR", "pair_seed": "--pair", "run": "RUN",
    "runs": "RUNS", "prompts": "PROMPT", "image": "IMAGE", "region": "REGION", "spec": "SPEC", "bench": "BENCH",
    "file": "FILE", "request": "REQUEST", "boxes": "--box", "counts": "--count", "study": "STUDY", "raters": "RATERS", "names": "--name",
    "root": "ROOT", "exports": "--export-to",
}  # fmt: skip

TYPER = {  # its messages in a user's words
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "write a whole number, for instance 4",
    "Input should be a valid number, unable to parse string as a number": "write a number, for instance 0.5",
}


class Terminated(BaseException):
    """SIGTERM: everything is put away as after Ctrl-C."""


def terminated(*_: object) -> NoReturn:
    """For `signal.signal`."""
    raise Terminated


def _spelled(error: InputError) -> str:
    """The error's line with this command line's name of the argument."""
    if "." in error.field:  # a key of the recipe
        return error.line(f"--set {error.field}")
    return error.line(SPELLINGS.get(error.field, f"--{error.field.replace('_', '-')}"))


def _resumed() -> bool:
    return " ".join(sys.argv[1:3]).startswith(RESUMED)


def _write_details(error: BaseException) -> Path | None:
    """A file with the traceback; None where none can be written."""
    from magictailor import __version__

    lines = [
        f"magictailor {__version__}, Python {platform.python_version()}, {platform.platform()}\n",
        f"{sys.argv}\n\n",
        *traceback.format_exception(error),
    ]
    name = f"bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (cache_folder() / "bugs", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("".join(lines), "utf-8", "backslashreplace")
        except OSError:
            continue
        return folder / name
    return None


def _of_the_system(error: OSError) -> tuple[int, str]:
    """What the file system says no to, with the file's name."""
    name = error.filename if error.filename is not None else ""
    text = f"{os.fsdecode(name) if isinstance(name, str | bytes) else name}: {error.strerror or error}".removeprefix(
        ": "
    )
    if error.errno in FULL:
        return FAILED, f"{text}; free some space or choose another folder, then run the same command again"
    return MISTAKE, f"{text}; check the path and its permissions"


def ending(error: BaseException) -> tuple[int, str]:
    """The exit code and the line for what ended a command; nothing to say is an empty line."""
    match error:
        case InputError():
            return MISTAKE, _spelled(error)
        case RunStopped():
            return INTERRUPTED, str(error)
        case RunError() | FloatingPointError():
            return FAILED, str(error)
        case KeyboardInterrupt() | Terminated():
            code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else TERMINATED
            return code, "stopped" + "; the same command resumes from the last checkpoint" * _resumed()
        case MemoryError():
            return FAILED, SHORT
        case ImportError() if "failed to map segment" in str(error):  # of a shared library
            return FAILED, SHORT
        case OSError() if error.errno is not None:
            return _of_the_system(error)
    if hasattr(error, "format_message"):  # typer's own click, whose exceptions have no public name
        message = str(error.format_message())
        for theirs, ours in TYPER.items():
            message = message.replace(theirs, ours)
        return MISTAKE, f"{message} (magictailor --help lists all commands)"
    details = _write_details(error)
    where = f"details in {details}" if details else "no file for details could be written"
    return BUG, f"this is a bug: {type(error).__name__}: {error or 'no message'}; {where}"


def stop(error: BaseException) -> NoReturn:
    """Print the line and leave."""
    code, line = ending(error)
    if code in (FAILED, BUG) or is_printing_process():  # what one process refuses, all refuse
        quiet = code in (INTERRUPTED, TERMINATED)
        with suppress(OSError):  # nobody may read it any more
            print(("" if quiet else "error: ") + one_line(line), file=sys.stderr, flush=True)
    sys.exit(code)
