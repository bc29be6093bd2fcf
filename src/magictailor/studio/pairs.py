"""Pairs that people make in the studio. Each is an ordinary pair folder with a ``pair.toml``.

``pairs/ada/pair.toml``, ``pairs/ada/photos/*``, ``pairs/ada/masks/*.png``. While a pair is being made, a sample may have no photos
yet and a photo no mask; `pair_view.problems` says in plain words what is missing.
"""

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.common.files import write_atomically, write_text
from magictailor.studio.pair_file import (
    MASKS,
    PAIR_FILE,
    PHOTOS,
    StudioPair,
    StudioSample,
    checked_label,
    checked_labels,
    checked_title,
    label_name,
)
from magictailor.studio.uploads import decoded, stem_of
from magictailor.studio.workspace import NotThere, Workspace, checked_name

THUMBS, REMOVED = "thumbs", "removed"
MOST_PHOTOS = 200


class PairStore:
    """All pairs of a studio. Its functions may be called from any thread."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._lock = threading.RLock()

    # --- reading

    def folder(self, id: str) -> Path:
        """Raises NotThere."""
        return self.workspace.find("pairs", id)

    def ids(self) -> list[str]:
        folders = [f for f in self.workspace.pairs.iterdir() if not f.name.startswith(".") and not f.is_symlink()]
        found = [f for f in folders if (f / PAIR_FILE).is_file()]
        return [f.name for f in sorted(found, key=lambda f: -(f / PAIR_FILE).stat().st_mtime_ns)]

    def read(self, id: str) -> StudioPair:
        """Raises NotThere or InputError: no such pair, or a ``pair.toml`` that was not made here."""
        file = self.folder(id) / PAIR_FILE
        try:
            return StudioPair.from_toml(file.read_text("utf-8"))
        except FileNotFoundError as error:
            raise NotThere(f"{id}: not a pair", "reload the page") from error
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(f"{id}: its {PAIR_FILE} cannot be read ({error})", "correct it") from error

    def photo(self, id: str, photo: str) -> Path:
        return self.workspace.find("pairs", id, PHOTOS, photo)

    # --- making and changing

    def create(self, name: str, labels: Sequence[str]) -> str:
        """A new pair without photos; returns its id.

        Raises:
            InputError: no name, or labels that cannot be.
        """
        samples = tuple(StudioSample(label) for label in checked_labels(labels))
        with self._lock:
            id = self._new_id(name)
            work = self._work(id)
            for folder in (PHOTOS, MASKS, THUMBS):
                (work / folder).mkdir(parents=True)
            write_text(work / PAIR_FILE, StudioPair(checked_title(name), samples).toml())
            work.rename(self.workspace.pairs / id)
        return id

    def add(
        self, id: str, sample: int, filename: str, content: bytes, *, instead: str | None = None, trusted: bool = False
    ) -> str:
        """Add a photo to a sample, or put it in the place of ``instead``; returns its name.

        Raises:
            InputError: not a readable image, too large, or too many photos.
        """
        self._check_sample(self.read(id), sample)
        with decoded("photo", content, trusted=trusted) as (found, work), self._lock:
            pair, folder = self.read(id), self.folder(id)
            photos = self._check_sample(pair, sample).photos
            if sum(len(s.photos) for s in pair.samples) >= MOST_PHOTOS:
                raise InputError(f"the pair has {MOST_PHOTOS} photos already", "remove one first")
            name = _free_name(folder, stem_of(filename), found["extension"])
            _place(work / "source" if found["kept"] else work / "photo.png", folder / PHOTOS / name)
            _place(work / "thumb.webp", folder / THUMBS / f"{name}.webp")
            if found["alpha"]:
                _place(work / "alpha.png", folder / MASKS / f"{Path(name).stem}.png")
            if instead is not None:
                place = photos.index(instead) if instead in photos else len(photos)
                kept = (*photos[:place], name, *photos[place:])
                self._write(id, pair.with_photos(sample, kept))
                if instead in photos:
                    self.remove(id, instead)
            else:
                self._write(id, pair.with_photos(sample, (*photos, name)))
        return name

    def remove(self, id: str, photo: str) -> None:
        """Take a photo out of its sample. Its file and its masks wait in ``removed/`` for `restore`."""
        with self._lock:
            pair, folder = self.read(id), self.folder(id)
            number = pair.sample_of(photo)
            away = folder / REMOVED / photo
            for file in [folder / PHOTOS / photo, *_masks_of(folder, photo)]:  # a photo and its mask may share a name
                if file.exists():
                    (away / file.parent.name).mkdir(parents=True, exist_ok=True)
                    os.replace(file, away / file.parent.name / file.name)
            place = pair.samples[number].photos.index(photo)
            away.mkdir(parents=True, exist_ok=True)
            write_text(away / "place.json", json.dumps({"sample": number, "place": place}))
            self._write(id, pair.with_photos(number, tuple(p for p in pair.samples[number].photos if p != photo)))

    def restore(self, id: str, photo: str) -> None:
        """Undo `remove`. Raises NotThere: it was not removed."""
        with self._lock:
            pair, folder = self.read(id), self.folder(id)
            away = self.workspace.find("pairs", id, REMOVED, photo)
            before = json.loads((away / "place.json").read_text("utf-8"))
            number = min(before["sample"], len(pair.samples) - 1)
            for file in away.glob("*/*"):
                os.replace(file, folder / file.parent.name / file.name)
            shutil.rmtree(away)
            photos = list(pair.samples[number].photos)
            photos.insert(before["place"], photo)
            self._write(id, pair.with_photos(number, tuple(photos)))

    def arrange(self, id: str, samples: Sequence[Sequence[str]]) -> None:
        """Set which photos each sample has, and in which order.

        Raises:
            InputError: not the same photos as before.
        """
        with self._lock:
            pair = self.read(id)
            before = sorted(p for s in pair.samples for p in s.photos)
            if len(samples) != len(pair.samples) or sorted(p for photos in samples for p in photos) != before:
                raise InputError("the photos have changed in the meantime", "reload the page", field="samples")
            new = tuple(replace(s, photos=tuple(photos)) for s, photos in zip(pair.samples, samples, strict=True))
            self._write(id, replace(pair, samples=new))

    def relabel(self, id: str, sample: int, label: str, word: str | None = None) -> None:
        """Change a sample's label and pseudo-word (None: made from the label); masks named after it follow.

        Raises:
            InputError: a label or word that cannot be, or that another sample has.
        """
        label = checked_label(label)
        if word is not None and not re.fullmatch(r"<[a-z0-9-]{1,40}>", word):
            raise InputError(f"{word[:40]!r}: not a pseudo-word", "write it like <ada-2>", field="word")
        with self._lock:
            pair = self.read(id)
            old = self._check_sample(pair, sample)
            others = [s for n, s in enumerate(pair.samples) if n != sample]
            checked_labels([*(s.label for s in others), label])
            new = replace(old, label=label, word=None if word == StudioSample(label).pseudo_word else word)
            if any(s.pseudo_word == new.pseudo_word for s in others):
                raise InputError(f"{new.pseudo_word}: another sample has this word", "choose another", field="word")
            for file in (self.folder(id) / MASKS).glob(f"*.{label_name(old.label)}.png"):
                stem = file.name.removesuffix(f".{label_name(old.label)}.png")
                os.replace(file, file.with_name(f"{stem}.{label_name(label)}.png"))
            self._write(id, pair.with_sample(sample, new))

    def rename(self, id: str, name: str) -> None:
        with self._lock:
            self._write(id, replace(self.read(id), name=checked_title(name)))

    def add_sample(self, id: str, label: str) -> None:
        """One more component. Raises InputError."""
        with self._lock:
            pair = self.read(id)
            checked_labels([*(s.label for s in pair.samples), label])
            self._write(id, replace(pair, samples=(*pair.samples, StudioSample(checked_label(label)))))

    def remove_sample(self, id: str, sample: int) -> None:
        """Remove a component without photos. Raises InputError: it has some, or is the concept."""
        with self._lock:
            pair = self.read(id)
            if self._check_sample(pair, sample).photos or sample == 0:
                raise InputError(
                    f"{pair.samples[sample].label}: has photos, or is the concept", "remove its photos first"
                )
            kept = tuple(s for n, s in enumerate(pair.samples) if n != sample)
            self._write(id, replace(pair, samples=kept))

    def delete(self, id: str) -> None:
        """Move the whole pair out of sight; `undelete` brings it back."""
        with self._lock:
            folder = self.folder(id)
            os.replace(folder, folder.with_name(f".deleted-{id}"))

    def undelete(self, id: str) -> None:
        """Raises NotThere: no deleted pair of this id."""
        with self._lock:
            away = self.workspace.pairs / f".deleted-{checked_name(id)}"
            if not away.is_dir() or (self.workspace.pairs / id).exists():
                raise NotThere(f"{id}: not a deleted pair", "reload the page")
            os.replace(away, self.workspace.pairs / id)

    def snapshot(self, id: str) -> Callable[[Path], None]:
        """A function that copies the pair, as it is when called, to ``pair`` in a folder."""

        def copy(folder: Path) -> None:
            source = self.folder(id)
            with self._lock:
                for name in (PHOTOS, MASKS):
                    shutil.copytree(source / name, folder / "pair" / name, ignore=shutil.ignore_patterns("found", ".*"))
                shutil.copy(source / PAIR_FILE, folder / "pair" / PAIR_FILE)

        return copy

    # --- helpers

    def _write(self, id: str, pair: StudioPair) -> None:
        write_text(self.folder(id) / PAIR_FILE, pair.toml())

    def _check_sample(self, pair: StudioPair, sample: int) -> StudioSample:
        if not 0 <= sample < len(pair.samples):
            raise NotThere(f"{sample}: no sample of this number", "reload the page")
        return pair.samples[sample]

    def _new_id(self, name: str) -> str:
        stem = stem_of(checked_title(name) + ".x")
        taken = {f.name.removeprefix(".deleted-") for f in self.workspace.pairs.iterdir()}
        return next(id for n in range(1, 10_000) if (id := stem if n == 1 else f"{stem}-{n}") not in taken)

    def _work(self, id: str) -> Path:
        work = self.workspace.pairs / f".new-{id}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        return work


def _masks_of(folder: Path, photo: str) -> list[Path]:
    stem = Path(photo).stem
    return [folder / MASKS / f"{stem}.png", *sorted((folder / MASKS).glob(f"{stem}.*.png"))]


def _free_name(folder: Path, stem: str, extension: str) -> str:
    """A name whose stem no photo has, removed ones included: masks are found by it."""
    taken = {p.stem for p in (folder / PHOTOS).iterdir()}
    taken |= {Path(p.name).stem for p in (folder / REMOVED).iterdir()} if (folder / REMOVED).is_dir() else set()
    free = next(s for n in range(1, 10_000) if (s := stem if n == 1 else f"{stem}-{n}") not in taken)
    return f"{free}.{extension}"


def _place(source: Path, target: Path) -> None:
    write_atomically(target, lambda path: shutil.copy(source, path))
