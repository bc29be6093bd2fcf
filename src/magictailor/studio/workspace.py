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
from magictailor.common.files import output_folder

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")  # of a file or folder that a request may name
HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # a model's name at the hub
LOCK_FILE = "studio.lock"


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
class Places:
    """Folders outside the studio that its owner has named, and nobody else can.

    models, loras: where trainings find a base or community LoRAs by name. exports: where exports may go, by name.
    """

    models: Path
    loras: Path
    exports: Mapping[str, Path] = field(default_factory=dict)

    def as_json(self) -> str:
        exports = {name: str(path) for name, path in self.exports.items()}
        return json.dumps({"models": str(self.models), "loras": str(self.loras), "exports": exports})

    @classmethod
    def from_json(cls, text: str) -> "Places":
        tree = json.loads(text)
        exports = {name: Path(path) for name, path in tree["exports"].items()}
        return cls(Path(tree["models"]), Path(tree["loras"]), exports)

    def model(self, name: str) -> str:
        """What `magictailor.personalize` takes for a base of this name: ``embedded``, a hub's name, or ``models/FILE``.

        Raises:
            InputError: none of these.
        """
        if name == "embedded":
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
        return {"models": ["embedded", *(f"models/{name}" for name in bases)], "loras": loras}


class Workspace:
    """The folders of a studio.

    Attributes:
        root: absolute, links followed.
        pairs, jobs: a folder for each pair and each job. staging: folders that are being uploaded.
    """

    def __init__(self, root: Path | str) -> None:
        """Makes the folders. Raises InputError: ``root`` cannot be made or written."""
        self.root = output_folder(root)
        self.pairs, self.jobs = self.root / "pairs", self.root / "jobs"
        self.staging = self.root / "staging"
        for folder in (self.pairs, self.jobs, self.staging, self.root / "models", self.root / "loras"):
            folder.mkdir(parents=True, exist_ok=True)

    def places(
        self, *, models: Path | None = None, loras: Path | None = None, exports: Mapping[str, Path] | None = None
    ) -> Places:
        """The owner's folders; those not named lie in the studio. Raises InputError: a folder that is not there."""
        for path in (models, loras, *(exports or {}).values()):
            if path is not None and not path.is_dir():
                raise InputError(f"{path}: no such folder", "make it first, or correct the path")
        return Places(models or self.root / "models", loras or self.root / "loras", dict(exports or {}))

    def find(self, *names: str) -> Path:
        """The path of something that exists in the studio, named part by part.

        Raises:
            NotThere: no such file or folder, a part that is no plain name, or a link on the way.
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
                raise InputError(
                    f"{self.root}: another studio works here", "close it, or choose another folder", field="root"
                )
            yield


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
