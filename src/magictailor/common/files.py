"""Files written whole or not at all."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryFile, mkdtemp
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError

from magictailor.common.errors import InputError, RunError


def _unwritable(path: Path, error: Exception) -> RunError:
    return RunError(
        f"could not write {path} ({error}): free some space or choose another folder, then run the same command again"
    )


def output_folder(path: Path | str, *, outside: Path | None = None) -> Path:
    """The absolute path of a folder that exists or can be made, links followed.

    ``outside``: a folder that it must not be in (a pair's own: what is written there would be read as pictures).

    Raises:
        InputError: a file stands there or on the way, the path is too long, or nothing may be written there.
    """
    try:
        place = Path(path).expanduser().resolve()
        nearest = next(p for p in (place, *place.parents) if p.exists())
    except (OSError, RuntimeError) as error:
        raise InputError(f"--output {path}: {getattr(error, 'strerror', error)}; choose another path") from error
    if not nearest.is_dir():
        raise InputError(f"--output {path}: {nearest} is a file; choose another folder")
    try:  # what a mode says is not what holds: root may not write in /proc
        TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise InputError(f"--output {path}: nothing may be written in {nearest}; choose another folder") from error
    if outside is not None and (place == outside.resolve() or outside.resolve() in place.parents):
        raise InputError(f"--output {path}: lies in the folder of the pictures; choose one outside {outside}")
    return place


@contextmanager
def new_folder(path: Path | str) -> Iterator[Path]:
    """A hidden folder to fill, which gets its name when the block ends well; otherwise nothing is left.

    Raises:
        InputError: a folder that holds something stands there, or none can be made.
    """
    folder = output_folder(path)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"--output {path}: exists and is not empty; choose a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(mkdtemp(dir=folder.parent, prefix=f".{folder.name[:40]}-"))
    except OSError as error:
        raise InputError(f"--output {path}: cannot be made ({error.strerror}); choose another folder") from error
    try:
        yield work
        work.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        work.rename(folder)
    finally:
        rmtree(work, ignore_errors=True)


def output_file(option: str, path: Path | str, *, outside: Path | None = None) -> Path:
    """A path where a new file may be written, or one of ours written again; see `output_folder`.

    Raises:
        InputError: a folder or a device stands there, or its folder is not usable.
    """
    try:
        output_folder(Path(path).parent, outside=outside)
        if Path(path).name in ("", "..") or (Path(path).exists() and not Path(path).is_file()):
            raise InputError(f"{option} {path}: not a file's name; write for instance {option} sheet.png")
        if Path(path).is_symlink():
            raise InputError(f"{option} {path}: is a link; name the file itself")
    except InputError as error:
        raise InputError(str(error).replace("--output", option)) from error
    except OSError as error:
        raise InputError(f"{option} {path}: {error.strerror}; choose another path") from error
    return Path(path)


def digest(file: Path) -> str:
    """sha256 of a file's bytes."""
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file, then rename it to ``path``; on failure nothing is left.

    Raises:
        RunError: the disk is full or the file cannot be written; what stood at ``path`` still stands.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
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
    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_whole(path, write)


def json_text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    write_text(path, json_text(value))


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Raises RunError where the disk is full."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise _unwritable(path, error) from error
