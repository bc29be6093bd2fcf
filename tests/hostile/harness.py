"""Any command, given anything: it ends in time, with a promised exit code and one line, and leaves nothing behind."""

import io
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from magictailor.common.errors import InputError
from magictailor.common.text import CONTROLS, one_line

SECONDS = 10.0  # a refusal on a busy machine
PROMISED = (0, 1, 2, 130)
Answer = TypeVar("Answer")


def check_line(text: str) -> None:
    """One line with a problem and a fix, fit for a terminal."""
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert len(text) < 1500
    assert not CONTROLS.search(text), text
    assert "Traceback" not in text
    assert ";" in text or "(magictailor --help" in text, text  # what is wrong; what to do


def tree(folder: Path) -> dict[str, int]:
    """All files below, with their sizes."""
    return {str(p): p.lstat().st_size if p.is_file() else -1 for p in folder.rglob("*")}


def ended(folder: Path, *arguments: object) -> int:
    """The exit code of a command in this process; a refusal must leave ``folder`` as it was."""
    from magictailor.cli import main

    before, began, code = tree(folder), time.monotonic(), 0
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with patch.object(sys, "argv", ["magictailor", *map(str, arguments)]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    err.flush()
    text = err.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert code in PROMISED, text
    assert time.monotonic() - began < SECONDS
    if code:
        check_line(text)
        assert tree(folder) == before
    return code


def refused_or(work: Callable[..., Answer], *arguments: Any, **options: Any) -> Answer | InputError:
    """What the function returns, or its `InputError`; any other error is a bug."""
    try:
        return work(*arguments, **options)
    except InputError as error:
        refused = error
    check_line(f"error: {one_line(str(refused))}\n" if refused.fix else "error: without a fix\n")
    return refused
