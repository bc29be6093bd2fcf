"""The three layouts of a pair on disk. Each is read as drafts: labels and file names, no file opened yet.

1. Files named by sample: ``person_a+hair_a/0_person_a1.jpg, 1_hair_a1.jpg, masks/0_person_a1.png, ...``
2. A folder for each sample: ``0_person/photo.jpg, 0_person/masks/photo.png, 1_hair/...``
3. A ``pair.toml``: ``[[samples]]`` with ``label``, ``images`` and optional ``word``, ``masks``, ``exclude``.

Captions, hidden files and folders inside ``masks`` are ignored.
"""

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from magictailor.common.errors import InputError
from magictailor.common.opening import read_text
from magictailor.common.records import parsed_toml
from magictailor.data.images import expand, image_files, is_image_file, natural_order

EXPECTED = (
    "expected 0_person_a1.jpg, 1_hair_a1.jpg, ... and masks/0_person_a1.png, ...; "
    "or folders 0_person/ and 1_hair/, each with images and masks/; or a pair.toml"
)
KEYS = ("name", "samples")
INDEX = re.compile(r"([0-9]+)_")
TRAILING_ID = re.compile(r"(_[A-Za-z]{0,2}[0-9]+|_[A-Za-z]|[ -]?[0-9]+)$")  # _a1, _a, 12
SAMPLE_KEYS = ("label", "word", "images", "masks", "exclude")


@dataclass(frozen=True)
class Draft:
    """The label and files of one sample, before any file is opened."""

    label: str
    images: tuple[Path, ...]
    word: str | None = None
    masks: Path | tuple[Path, ...] | None = None  # a folder; or one file per image; None: masks/
    excluded: tuple[Path, ...] = ()  # folders of masks to subtract


def read_layout(path: Path | str) -> tuple[str, list[Draft]]:
    """The pair's name and its samples, concept first, from a folder or a TOML file.

    Raises:
        InputError: no pair is there, or the path cannot be read.
    """
    try:
        entry = Path(os.path.abspath(Path(path).expanduser()))  # keeps a link's own name, unlike resolve()
        return _from_toml(entry) if entry.is_file() and entry.suffix.lower() == ".toml" else _from_folder(entry)
    except (OSError, RuntimeError) as error:  # a name too long, no permission, ~nobody
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})", "check the path") from error


def _from_folder(folder: Path) -> tuple[str, list[Draft]]:
    if not folder.exists():
        raise InputError(f"{folder}: does not exist", f"check the path; {EXPECTED}")
    if not folder.is_dir():
        raise InputError(f"{folder}: neither a folder nor a TOML file", EXPECTED)
    images = image_files(folder)
    visible = sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=natural_order)
    tomls = [entry for entry in visible if entry.suffix.lower() == ".toml"]
    if tomls:
        named = [entry for entry in tomls if entry.name == "pair.toml"] or tomls
        if len(named) > 1:
            raise InputError(f"{folder}: holds {len(tomls)} TOML files", "name the one to use pair.toml")
        return _from_toml(named[0])
    numbered = [entry for entry in visible if entry.is_dir() and INDEX.match(entry.name)]
    if images and numbered:
        raise InputError(f"{folder}: has {images[0].name} and {numbered[0].name}/", "move all images into folders")
    if images:
        return folder.name, _from_names(folder, images)
    filled = [entry for entry in visible if any(map(is_image_file, entry.glob("*"))) and entry.name != "masks"]
    if numbered or filled:
        return folder.name, _from_folders(folder, sorted({*numbered, *filled}, key=natural_order))
    raise InputError(f"{folder}: holds no images", EXPECTED)


def _from_names(folder: Path, images: Sequence[Path]) -> list[Draft]:
    """Layout 1: ``{index}_{label}_{id}{k}.jpg``, in a folder ``{label}_{id}+{label}_{id}``."""
    groups = _indexed(folder, images, "0_person_1.jpg and 1_hair_1.jpg")
    parts = folder.name.split("+")
    fits = all(parts) and len(parts) >= len(groups)
    for part, files in zip(parts, groups, strict=False):
        fits = fits and all(_begins(_rest(file).lower(), part.lower()) for file in files)
    if fits:
        labels = [part.rpartition("_")[0] or part for part in parts[: len(groups)]]
    else:
        labels = [_common_label(files) for files in groups]
    return [Draft(_spaced(label), tuple(files)) for label, files in zip(labels, groups, strict=True)]


def _begins(name: str, part: str) -> bool:
    """Whether ``name`` is ``part``, or goes on without a letter: ``person_a1`` for ``person_a``, not ``person`` for ``p``."""
    return name.startswith(part) and not name[len(part) :][:1].isalpha()


def _from_folders(folder: Path, folders: Sequence[Path]) -> list[Draft]:
    """Layout 2: ``{index}_{label}/`` with its images."""
    drafts = []
    for same in _indexed(folder, folders, "0_person/ and 1_hair/, or write a pair.toml"):
        if len(same) > 1:
            raise InputError(f"{same[0]}: {same[1].name} has the same number", "give each sample its own")
        images = image_files(same[0])
        if not images:
            raise InputError(f"{same[0]}: holds no images", "add some, or remove the folder")
        drafts.append(Draft(_spaced(_rest(same[0])), tuple(images)))
    return drafts


def _from_toml(file: Path) -> tuple[str, list[Draft]]:
    """Layout 3: paths and globs are relative to the TOML file."""
    try:
        table = parsed_toml(read_text(file))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}", "choose a file that can be read") from error
    except ValueError as error:
        raise InputError(f"{file}: {error}", "correct that line") from error
    _refuse_unknown(table, KEYS, str(file))
    samples = table.get("samples")
    if not isinstance(samples, list) or not samples or not all(isinstance(item, dict) for item in samples):
        raise InputError(f"{file}: describes no samples", "begin each with a line [[samples]]")
    name = _text(table, "name", str(file)) or (file.parent.name if file.name == "pair.toml" else file.stem)
    return name, [_toml_sample(file.parent, item, f"{file}, sample {i}") for i, item in enumerate(samples)]


def _toml_sample(folder: Path, table: dict[str, Any], source: str) -> Draft:
    _refuse_unknown(table, SAMPLE_KEYS, source)
    label, patterns = _spaced(_text(table, "label", source) or ""), _texts(table, "images", source)
    if not label or not patterns:
        missing = 'images = ["person/*.jpg"]' if label else 'label = "person"'
        raise InputError(f"{source}: incomplete", f"add a line like {missing}")
    images = tuple(dict.fromkeys(path for pattern in patterns for path in expand(folder, pattern)))
    in_folder = isinstance(table.get("masks"), str)
    listed = _paths(folder, table, "masks", source, folders=in_folder)
    if listed and not in_folder and not len(listed) == len(patterns) == len(images):
        # A glob's order cannot match images to masks, so the images must be listed too.
        raise InputError(
            f"{source}: lists {len(listed)} masks for {len(images)} images",
            "list all of both, or name a folder of masks",
        )
    excluded = _paths(folder, table, "exclude", source, folders=True)
    masks = listed[0] if in_folder else listed or None
    return Draft(label, images, _text(table, "word", source), masks, excluded)


def _indexed(folder: Path, entries: Iterable[Path], example: str) -> list[list[Path]]:
    """The entries grouped by the number at the start of their names; the numbers must be 0, 1, ..."""
    groups = defaultdict[int, list[Path]](list)
    for entry in entries:
        match = INDEX.match(entry.name)
        if not match:
            raise InputError(
                f"{entry}: no sample number in its name", f"number them from 0 (the concept), like {example}"
            )
        groups[int(match[1])].append(entry)
    order = sorted(groups)
    if order != list(range(len(order))):
        found = ", ".join(groups[index][0].name for index in order[:3])
        raise InputError(f"{folder}: has {found}", f"number samples 0 (concept), 1, ..., like {example}")
    return [groups[index] for index in order]


def _rest(path: Path) -> str:
    """The name without its number: ``long_hair_a1`` of ``1_long_hair_a1.jpg``."""
    return (path.name if path.is_dir() else path.stem).partition("_")[2]


def _common_label(files: Sequence[Path]) -> str:
    """The words that all file names begin with, without the number before and the id after."""
    labels = [TRAILING_ID.sub("", _rest(file)).split("_") for file in files]
    for file, words in zip(files, labels, strict=True):
        if words[0] != labels[0][0]:
            problem = f"{files[0]}: {file.name} has the same number but another label"
            raise InputError(problem, "give them different numbers or the same label")
    shared = takewhile(lambda column: len(set(column)) == 1, zip(*labels, strict=False))
    label = "_".join(column[0] for column in shared)
    if not label:
        raise InputError(f"{files[0]}: no label in its name", "name it like 0_person_1.jpg")
    return label


def _spaced(label: str) -> str:
    return " ".join(label.replace("_", " ").split())


def _paths(folder: Path, table: dict[str, Any], key: str, source: str, *, folders: bool) -> tuple[Path, ...]:
    """The files or folders that the key names; they must exist."""
    paths = tuple(folder / name for name in _texts(table, key, source))
    for path in paths:
        if not (path.is_dir() if folders else path.is_file()):
            kind = "folder" if folders else "file"
            form = '"folder"' if folders and key == "exclude" else f'"folder" or {key} = ["file"]'
            raise InputError(f"{source}: {path} is not a {kind}", f"write {key} = {form}")
    return paths


def _text(table: dict[str, Any], key: str, source: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{source}: {key} must be text", f'write {key} = "..."')
    return value


def _texts(table: dict[str, Any], key: str, source: str) -> list[str]:
    value = table.get(key, [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) and item for item in values):
        raise InputError(f"{source}: {key} must be text or a list of texts", f'write {key} = ["..."]')
    return values


def _refuse_unknown(table: dict[str, Any], known: Sequence[str], source: str) -> None:
    for key in table:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, 1, 0)[0]
            raise InputError(f"{source}: unknown key {key}", f"write {nearest} or one of {', '.join(known)}")
