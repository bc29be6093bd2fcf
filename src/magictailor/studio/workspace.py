"""The studio's folder. Nothing outside it is read or written, and no link inside it is followed."""

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.common.files import TEMPORARY, output_folder
from magictailor.weights import BASES

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")  # of a file or folder that a request may name
HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # a model's name at the hub
LOCK_FILE, TOKEN_FILE = "studio.lock", "token"
FOLDERS, FILES = ("pairs", "jobs", "staging", "models", "loras"), (LOCK_FILE, TOKEN_FILE)


class NotThere(InputError):
    """Something that a request names, and that the studio does not have."""


def checked_name(name: str) -> str:
    """The name, if it can be one of a file here: no separator, no leading dot, at most 80 characters.

    Raises:
        NotThere: it cannot.
    """
    if not NAME.fullmatch(name) or ".." in name:
        raise NotThere(f"{name[:80]!r}: nothing here has this name", "reload the page")
    return name


@dataclass(frozen=True)
class AllowedFolders:
    """Folders outside the studio that its owner has named, and nobody else can.

    models, loras: where trainings find a base or community LoRAs by name. exports: where exports may go, by name.
    """

    models: Path
    loras: Path
    exports: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        root: Path,
        *,
        models: Path | None = None,
        loras: Path | None = None,
        exports: Mapping[str, Path] | None = None,
    ) -> "AllowedFolders":
        """The owner's folders; those not named lie in the studio.

        Raises:
            InputError: a folder that is not there, or a name that is not a plain word.
        """
        for name in exports or {}:
            if not NAME.fullmatch(name) or ".." in name:
                fix = "write a plain word before the folder, like comfyui=ComfyUI/models"
                raise InputError(f"{name[:80]}: not a folder's name", fix, field="exports")
        for path in (models, loras, *(exports or {}).values()):
            if path is not None and not path.is_dir():
                raise InputError(f"{path}: no such folder", "make it first, or correct the path")
        return cls(models or root / "models", loras or root / "loras", dict(exports or {}))

    def as_json(self) -> str:
        exports = {name: str(path) for name, path in self.exports.items()}
        return json.dumps({"models": str(self.models), "loras": str(self.loras), "exports": exports})

    @classmethod
    def from_json(cls, text: str) -> "AllowedFolders":
        tree = json.loads(text)
        exports = {name: Path(path) for name, path in tree["exports"].items()}
        return cls(Path(tree["models"]), Path(tree["loras"]), exports)

    def model(self, name: str) -> str:
        """What `magictailor.personalize` takes for a base of this name: ``embedded``, a hub's name, or ``models/FILE``.

        Raises:
            InputError: none of these.
        """
        if name in BASES:
            return name
        folder, _, file = name.partition("/")
        if folder == "models" and NAME.fullmatch(file) and (self.models / file).exists():
            return str(self.models / file)
        if folder != "models" and HUB.fullmatch(name):
            return name
        raise InputError(
            f"{name[:80]}: no such base", f"choose from the list, or put it into {self.models}", field="model"
        )

    def lora(self, name: str) -> str:
        """The same for ``FILE`` or ``FILE=STRENGTH``."""
        file, equals, strength = name.partition("=")
        if not NAME.fullmatch(file) or not (self.loras / file).is_file():
            raise InputError(f"{name[:80]}: no such LoRA", f"put it into {self.loras}", field="loras")
        return f"{self.loras / file}{equals}{strength}"

    def listed(self) -> dict[str, list[str]]:
        """The names of bases and LoRAs that are there."""

        def names(folder: Path, fits: Callable[[Path], bool]) -> list[str]:
            found = sorted(folder.iterdir()) if folder.is_dir() else []
            return [path.name for path in found if NAME.fullmatch(path.name) and fits(path)]

        bases = names(self.models, lambda p: p.suffix == ".safetensors" or (p / "model_index.json").is_file())
        loras = names(self.loras, lambda p: p.suffix == ".safetensors")
        return {"models": [*BASES, *(f"models/{name}" for name in bases)], "loras": loras}


def studio_root(root: Path | str) -> Path:
    """The absolute path of a studio's folder, links followed: one that is there, a new or an empty one. Nothing is made.

    Raises:
        InputError: it holds something else, has a file in place of a folder, or cannot be made or written.
    """
    try:
        folder = output_folder(root)
    except InputError as error:
        raise error.about("root") from error
    if not folder.exists():
        return folder
    parts = {path.name for path in folder.iterdir() if not TEMPORARY.fullmatch(path.name)}
    if not parts <= {*FOLDERS, *FILES} and not parts >= {"pairs", "jobs"}:
        raise InputError(f"{folder}: holds something other than a studio", "choose a new or empty folder", field="root")
    for name, is_right in (*((n, Path.is_dir) for n in FOLDERS), *((n, Path.is_file) for n in FILES)):
        if name in parts and not is_right(folder / name):
            kind = "folder" if name in FOLDERS else "file"
            fix = "move it away, or choose another folder for the studio"
            raise InputError(f"{folder / name}: not a {kind}", fix, field="root")
    return folder


class Workspace:
    """The folders of a studio.

    Attributes:
        root: absolute, links followed.
        pairs, jobs: a folder for each pair and each job. staging: folders that are being uploaded.
    """

    def __init__(self, root: Path | str) -> None:
        """Makes the folders. Raises InputError: see `studio_root`; nothing has been made."""
        self.root = studio_root(root)
        self.pairs, self.jobs, self.staging = (self.root / name for name in FOLDERS[:3])
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def find(self, *names: str) -> Path:
        """The path of something that exists in the studio, named part by part.

        Raises:
            NotThere: no such file or folder, a part that is not a plain name, or a link on the way.
        """
        path = self.root
        for name in names:
            path = path / checked_name(name)
            if path.is_symlink():
                raise NotThere(f"{name}: is a link, which the studio does not follow", "put the file itself there")
        if not path.exists():
            raise NotThere(f"{'/'.join(names)}: not in this studio", "reload the page")
        return path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Inside, no other server works in this folder. The system frees the lock when this process ends, however it does.

        Raises:
            InputError: another server has the folder.
        """
        with (self.root / LOCK_FILE).open("a") as file:
            if not try_lock(file.fileno()):
                raise another_works(self.root)
            yield


def another_works(root: Path | str) -> InputError:
    return InputError(f"{root}: another studio works here", "close it, or choose another folder", field="root")


def try_lock(file: int) -> bool:
    """Take the lock of an opened file, if no other process has it. It is held until the process ends or closes the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of this file."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(file)
    finally:
        os.close(file)
