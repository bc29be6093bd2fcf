"""Where a bench's files are: a folder that all workers see, or a URL that fsspec knows (``s3://bucket/bench``)."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from magictailor.common.errors import InputError, RunError
from magictailor.common.files import output_folder, write_text
from magictailor.common.locks import only_process

LIBRARIES = {  # what pip installs for the usual kinds of URL
    "s3": "'magictailor[s3]'", "s3a": "'magictailor[s3]'", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
    "sftp": "paramiko", "ssh": "paramiko", "http": "requests aiohttp", "https": "requests aiohttp",
}  # fmt: skip
READ_ONLY = ("http://", "https://")


class Store(Protocol):
    """``location``: as the user writes it; another machine opens the same store from it."""

    @property
    def location(self) -> str: ...

    def workspace(self, inputs: Sequence[Path]) -> AbstractContextManager[Path]:
        """A context with a local folder that has these files and folders of the bench; what changes in it is kept."""
        ...

    def mirror(self, *parts: str) -> AbstractContextManager[Path]:
        """A context with a local folder that has these parts of the bench, to read."""
        ...

    def only_driver(self) -> AbstractContextManager[None]:
        """Inside, no other driver works in the bench, where that can be known. Raises InputError if one does."""
        ...

    def write(self, name: str, text: str) -> None:
        """Write a file whole."""
        ...


@dataclass(frozen=True)
class FolderStore:
    """A folder. Workers write in it directly."""

    folder: Path

    @property
    def location(self) -> str:
        return str(self.folder)

    @contextmanager
    def workspace(self, inputs: Sequence[Path]) -> Iterator[Path]:
        yield self.folder

    @contextmanager
    def mirror(self, *parts: str) -> Iterator[Path]:
        yield self.folder

    def only_driver(self) -> AbstractContextManager[None]:
        return only_process(self.folder)

    def write(self, name: str, text: str) -> None:
        write_text(self.folder / name, text)


Stamp = tuple[int, int]  # size and time of a file


def _stamps(folder: Path) -> dict[Path, Stamp]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder): ((s := path.stat()).st_size, s.st_mtime_ns) for path in files}


@dataclass(frozen=True)
class RemoteStore:
    """A URL. A worker copies what a unit needs, works on the copy, and uploads what has changed.

    Objects are uploaded whole, and a trial's record of its cost after all others: a lost worker leaves no half result.
    """

    url: str

    @property
    def location(self) -> str:
        return self.url

    def _opened(self) -> tuple[Any, str]:
        import fsspec

        kind = self.url.partition("://")[0]
        try:
            system, root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            fix = f"run `pip install {LIBRARIES[kind]}`" if kind in LIBRARIES else "install it, or choose a folder"
            problem = f"{self.url}: the library for {kind}:// is not installed"
            raise InputError(problem, fix, field="output") from error
        except ValueError as error:
            problem, fix = f"{self.url}: not the URL of a store", "choose a folder, or for instance s3://bucket/bench"
            raise InputError(problem, fix, field="output") from error
        return system, str(root).rstrip("/")

    def _download(self, part: str, home: Path) -> None:
        system, root = self._opened()
        try:
            names = system.find(f"{root}/{part}")
            wanted = [n for n in names if n == f"{root}/{part}" or n.startswith(f"{root}/{part}/")]
            targets = [home / name.removeprefix(f"{root}/") for name in wanted]
            for target in targets:
                target.parent.mkdir(parents=True, exist_ok=True)
            if wanted:
                system.get(wanted, [str(target) for target in targets])
        except FileNotFoundError:
            return
        except Exception as error:  # each file system has errors of its own
            raise RunError(f"{self.url}: could not be read ({error})") from error

    def only_driver(self) -> AbstractContextManager[None]:
        return nullcontext()  # object stores have no locks

    @contextmanager
    def mirror(self, *parts: str) -> Iterator[Path]:
        home = Path(tempfile.mkdtemp(prefix="magictailor-bench-"))
        try:
            for part in parts:
                self._download(part, home)
            yield home
        finally:
            shutil.rmtree(home, ignore_errors=True)

    @contextmanager
    def workspace(self, inputs: Sequence[Path]) -> Iterator[Path]:
        with self.mirror(*(path.as_posix() for path in inputs)) as home:
            before = _stamps(home)
            yield home
            changed = [path for path, stamp in _stamps(home).items() if before.get(path) != stamp]
            system, root = self._opened()
            try:
                for path in sorted(changed, key=lambda path: (path.parts[0] == "costs", path)):
                    system.makedirs(f"{root}/{path.parent.as_posix()}", exist_ok=True)
                    system.put_file(str(home / path), f"{root}/{path.as_posix()}")
            except Exception as error:
                raise RunError(f"{self.url}: could not be written ({error})") from error

    def write(self, name: str, text: str) -> None:
        system, root = self._opened()
        try:
            system.makedirs(root, exist_ok=True)
            system.pipe_file(f"{root}/{name}", text.encode())
        except Exception as error:
            raise RunError(f"{self.url}: could not be written ({error})") from error


def open_store(location: str | Path) -> Store:
    """The store of a folder or a URL.

    Raises:
        InputError: a folder or URL that cannot be written, a URL of an unknown kind, or its library is missing.
    """
    if "://" not in str(location):
        return FolderStore(output_folder(location))
    if str(location).startswith(READ_ONLY):
        problem, fix = f"{location}: a web server takes no files", "choose a folder, or for instance s3://bucket/bench"
        raise InputError(problem, fix, field="output")
    return _remote(location)


def _remote(location: str | Path) -> RemoteStore:
    store = RemoteStore(str(location).rstrip("/"))
    store._opened()
    return store


@contextmanager
def bench_files(location: str | Path, *parts: str, field: str = "bench") -> Iterator[Path]:
    """A local folder with these parts of a bench, to read: the folder itself, or a copy of a URL's files.

    Args:
        field: the caller's name of the location, for the error.

    Raises:
        InputError: a file, a URL of an unknown kind, or its library is missing.
    """
    if "://" not in str(location):
        if Path(location).is_file():
            raise InputError(f"{location}: is a file", "name the bench's folder", field=field)
        yield Path(location)
        return
    try:
        store = _remote(location)
    except InputError as error:
        raise error.about(field) from error
    with store.mirror(*parts) as home:
        yield home
