"""Output folders, and atomic writes: a file is complete or does not change."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryFile, mkdtemp
from typing import Any
from uuid import uuid4
from zlib import crc32

from safetensors import SafetensorError

from magictailor.common.errors import InputError, RunError
from magictailor.common.locks import lock_folder, only_process
from magictailor.common.text import is_utf8

TEMPORARY = re.compile(r"\..*\.[0-9a-f]{32}\.tmp")  # what `write_atomically` writes before it renames it
MARK = b"made by magictailor"  # in the beginning of files that a command may write over; generated images lack it


def _unwritable(path: Path, error: Exception) -> RunError:
    return RunError(
        f"could not write {path} ({error}): free some space or choose another folder, then run the same command again"
    )


def short_name(name: str, limit: int = 200) -> str:
    """A file's name of at most ``limit`` bytes: a long one keeps its beginning, and a number that is its own.

    File systems take 255 bytes, and temporary files have longer names than theirs.
    """
    data = name.encode(errors="surrogateescape")
    if len(data) <= limit:
        return name
    return f"{data[: limit - 9].decode(errors='ignore')}-{crc32(data):08x}"


def output_folder(path: Path | str, *, outside: Path | None = None) -> Path:
    """The absolute path of a folder that exists or can be made, links followed.

    Args:
        outside: a folder that must not contain it. In a pair's own folder, new images would be read as its photos.

    Raises:
        InputError: a file is there or on the way, the path is too long, or the folder is not writable.
    """

    def refuse(problem: str, fix: str) -> InputError:
        return InputError(f"{path}: {problem}", fix, field="output")

    if not is_utf8(str(path)):
        raise refuse("its name is not UTF-8", "choose another name")
    try:
        folder = Path(path).expanduser().resolve()
        nearest = next(p for p in (folder, *folder.parents) if p.exists())
    except (OSError, RuntimeError, ValueError) as error:
        raise refuse(getattr(error, "strerror", str(error)), "choose another path") from error
    if not nearest.is_dir():
        raise refuse(f"{nearest} is a file", "choose another folder")
    try:  # permission bits do not say it: root may not write in /proc
        TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise refuse(f"{nearest} is not writable", "choose another folder") from error
    if outside is not None and folder.is_relative_to(outside.resolve()):
        raise refuse("lies in the folder of the photos", f"choose one outside {outside}")
    return folder


def _leftovers(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    with suppress(OSError):
        return [path for path in folder.iterdir() if pattern.fullmatch(path.name)]
    return []


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers left in a folder in which no other process writes."""
    for path in _leftovers(folder, TEMPORARY):
        with suppress(OSError):
            path.unlink()


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, apart from what killed writers left."""
    return all(TEMPORARY.fullmatch(path.name) for path in folder.iterdir())


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove hidden folders whose processes were killed: nobody holds their lock any more."""
    for path in _leftovers(parent, re.compile(re.escape(prefix) + r"[a-z0-9_]{8}")):
        with suppress(OSError):  # BlockingIOError: its process is alive
            if (handle := lock_folder(path)) is not None:
                rmtree(path, ignore_errors=True)
                os.close(handle)


def check_new(path: Path | str) -> Path:
    """`output_folder`, which is new or empty. Raises InputError."""
    folder = output_folder(path)
    if folder.exists() and not is_empty(folder):
        raise InputError(f"{path}: exists and is not empty", "choose a new folder", field="output")
    return folder


@contextmanager
def new_folder(path: Path | str) -> Iterator[Path]:
    """A hidden folder to fill. It is renamed to ``path`` when the block succeeds, and removed when it fails.

    What a killed process left of the same folder is removed.

    Raises:
        InputError: ``path`` is not empty, or cannot be made, or another process has created it in the meantime.
    """
    folder = check_new(path)
    prefix = f".{short_name(folder.name, 80)}-"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with only_process(folder.parent, wait=True):
            _remove_abandoned(folder.parent, prefix)
            work = Path(mkdtemp(dir=folder.parent, prefix=prefix))
            handle = lock_folder(work)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be made ({error.strerror})", "choose another folder", field="output"
        ) from error
    try:
        yield work
        work.chmod(0o755)
        try:
            if folder.exists():
                folder.rmdir()
            work.rename(folder)
        except OSError as error:
            raise InputError(
                f"{path}: another process has created it in the meantime", "choose a new folder", field="output"
            ) from error
    finally:
        rmtree(work, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def output_file(
    path: Path | str,
    suffixes: Sequence[str],
    mark: bytes = MARK,
    *,
    field: str = "output",
    outside: Path | None = None,
) -> Path:
    """The path of a file that can be written: new, or over one that the same command wrote.

    Args:
        suffixes: that the file may have.
        mark: what the beginning of a file has that the command wrote before; nothing else is written over.
        field: the caller's name of this argument, for the error.
        outside: as in `output_folder`.

    Raises:
        InputError: another suffix; something else is there already; or its folder is not usable.
    """
    path = Path(path)
    try:
        output_folder(path.parent, outside=outside)
        if path.name in ("", "..") or (path.exists() and not path.is_file()):
            raise InputError(f"{path}: not a file's name", f"name a file, for instance sheet{suffixes[0]}")
        if path.suffix.lower() not in suffixes:
            raise InputError(f"{path}: not one of {', '.join(suffixes)}", f"name it {path.stem}{suffixes[0]}")
        if path.is_symlink():
            raise InputError(f"{path}: is a link", "name the file itself")
        if path.exists() and not _begins_with(path, mark):
            raise InputError(f"{path}: another file is there already", "choose another name, or remove it")
    except InputError as error:
        raise error.about(field) from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "choose another path", field=field) from error
    return path


def _begins_with(path: Path, mark: bytes) -> bool:
    """Whether a file is empty or has this in its beginning."""
    with path.open("rb") as file:
        start = file.read(4096)
    return not start or mark in start


def digest(file: Path) -> str:
    """sha256 of the file's bytes."""
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a temporary file, then rename that to ``path``.

    Raises:
        RunError: the disk is full or the file cannot be written; ``path`` is as before.
    """
    temporary = path.with_name(f".{short_name(path.name)}.{uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def json_text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    write_text(path, json_text(value))


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Raises RunError if the disk is full."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise _unwritable(path, error) from error


def json_lines(content: str) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; a line that a kill cut short is left out."""
    rows = []
    for line in content.splitlines():
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            rows += [row] if isinstance(row, dict) else []
    return rows
