"""Other people's code, from a folder that the user names. Nothing of it is in this package."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from magictailor.common.errors import InputError


def check_checkout(folder: Path | str, holds: str, name: str, install: str, field: str) -> Path:
    """The folder, absolute.

    Args:
        holds: a file or folder in it that tells it from others.
        name: what should be in it, for the error.
        install: the command that makes one.

    Raises:
        InputError: it is not a checkout of ``name``.
    """
    path = Path(folder).expanduser().absolute()
    if not (path / holds).exists():
        raise InputError(f"{folder}: has no {holds}, so it is not a checkout of {name}", install, field=field)
    return path


@contextmanager
def importable(
    folder: Path | str | None, holds: str, name: str, install: str, field: str = "checkout"
) -> Iterator[None]:
    """Inside, the checkout's modules can be imported; None: those that are installed.

    Raises:
        InputError: no such folder, or an import fails inside.
    """
    path = None if folder is None else str(check_checkout(folder, holds, name, install, field))
    if path is not None:
        sys.path.insert(0, path)
    try:
        yield
    except ImportError as error:
        raise InputError(f"{name} is not installed ({error})", install, field=field) from error
    finally:
        if path is not None:
            sys.path.remove(path)
