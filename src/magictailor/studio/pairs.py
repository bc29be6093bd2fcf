"""Pairs that people make in the studio. Each is an ordinary pair folder with a ``pair.toml``.

``pairs/ada/pair.toml``, ``pairs/ada/photos/*``, ``pairs/ada/masks/*.png``. While a pair is being made, a sample may have no photos
yet and a photo no mask; `problems` says in plain words what is missing.
"""

import json
import os
import re
import shutil
import threading
import tomllib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from magictailor.common.errors import InputError
from magictailor.common.files import write_atomically, write_text
from magictailor.data.layouts import Draft, read_layout
from magictailor.data.masks import find_excluded, find_mask
from magictailor.studio.uploads import decoded, stem_of
from magictailor.studio.workspace import NotThere, Workspace, checked_name

PAIR_FILE, PHOTOS, MASKS, THUMBS, REMOVED = "pair.toml", "photos", "masks", "thumbs", "removed"
LABEL = re.compile(r"[^\W_][\w '-]{0,39}")  # letters, digits, spaces, - and '
MOST_PHOTOS, MOST_SAMPLES = 200, 9


@dataclass(frozen=True)
class StudioSample:
    """A sample in the making. ``word``: its pseudo-word; None: made from the label. ``photos``: names in ``photos/``."""

    label: str
    photos: tuple[str, ...] = ()
    word: str | None = None

    @property
    def pseudo_word(self) -> str:
        if self.word:
            return self.word
        plain = unicodedata.normalize("NFKD", self.label.lower()).encode("ascii", "ignore").decode()
        return f"<{re.sub(r'[^a-z0-9]+', '-', plain).strip('-')}>"


@dataclass(frozen=True)
class StudioPair:
    """What ``pair.toml`` says."""

    name: str
    samples: tuple[StudioSample, ...]

    def sample_of(self, photo: str) -> int:
        """The number of the sample that has this photo. Raises NotThere."""
        for number, sample in enumerate(self.samples):
            if photo in sample.photos:
                return number
        raise NotThere(f"{photo[:80]}: not a photo of this pair", "reload the page")

    def toml(self) -> str:
        lines = [f"name = {_quoted(self.name)}"]
        for sample in self.samples:
            images = ", ".join(_quoted(f"{PHOTOS}/{photo}") for photo in sample.photos)
            lines += ["", "[[samples]]", f"label = {_quoted(sample.label)}", f"images = [{images}]"]
            lines += [f"word = {_quoted(sample.word)}"] if sample.word else []
            lines += [f"masks = {_quoted(MASKS)}"]
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def checked_label(label: str) -> str:
    """The label with single spaces.

    Raises:
        InputError: empty, over 40 characters, or characters other than letters, digits, spaces, - and '.
    """
    label = " ".join(label.split())
    if not LABEL.fullmatch(label):
        raise InputError(
            f"{label[:40]!r}: not a label", "write an ordinary word, like person or long hair", field="label"
        )
    return label


def checked_labels(labels: Sequence[str]) -> list[str]:
    """Labels of one pair: each valid, no two alike, and no two with the same pseudo-word."""
    checked = [checked_label(label) for label in labels]
    words = [StudioSample(label).pseudo_word for label in checked]
    if not 1 <= len(checked) <= MOST_SAMPLES:
        raise InputError(f"{len(checked)} samples", f"a pair has 1 to {MOST_SAMPLES}", field="labels")
    if "<>" in words:
        raise InputError(f"{checked[words.index('<>')]}: no letter a-z or digit in it", "write it so", field="label")
    if len(set(words)) < len(words):
        raise InputError(f"{checked[-1]}: two samples have this label", "give each its own", field="label")
    return checked


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
            table = tomllib.loads(file.read_text("utf-8"))
            samples = [
                StudioSample(s["label"], tuple(Path(p).name for p in s["images"]), s.get("word"))
                for s in table["samples"]
            ]
            return StudioPair(str(table["name"]), tuple(samples))
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
            write_text(work / PAIR_FILE, StudioPair(_title(name), samples).toml())
            work.rename(self.workspace.pairs / id)
        return id

    def adopt(self, source: Path | str, name: str, *, trusted: bool = False) -> str:
        """Copy a pair in any of the layouts into the studio, with its masks; returns its id.

        Args:
            trusted: nobody else has made its images.

        Raises:
            InputError: no pair there, a photo that cannot be read, or a ``pair.toml`` that names files elsewhere; nothing
                is left behind.
        """
        _, drafts = read_layout(source)
        _check_inside(Path(source), drafts)
        id = self.create(name, [draft.label for draft in drafts])
        try:
            for number, draft in enumerate(drafts):
                if draft.word:
                    self.relabel(id, number, draft.label, draft.word)
                for path in draft.images:
                    photo = self.add(id, number, path.name, path.read_bytes(), trusted=trusted)
                    others = [d.label for d in drafts if d is not draft]
                    self._adopt_masks(id, photo, path, draft, others, trusted)
        except BaseException:
            shutil.rmtree(self.folder(id), ignore_errors=True)
            raise
        return id

    def _adopt_masks(self, id: str, photo: str, path: Path, draft: Draft, others: Sequence[str], trusted: bool) -> None:
        from magictailor.studio.masks import save_mask

        folder = draft.masks if isinstance(draft.masks, Path) else path.parent / MASKS
        try:
            listed = draft.masks[draft.images.index(path)] if isinstance(draft.masks, tuple) else None
            found = listed or find_mask(path, folder, None)
        except InputError:
            return  # no mask yet
        if isinstance(found, Path):
            save_mask(self, id, photo, found.read_bytes(), trusted=trusted)
        stems = {image.stem for image in draft.images}
        for removed in find_excluded(path, folder, others, stems):
            label = removed.stem.removeprefix(f"{path.stem}.").replace("_", " ")
            save_mask(self, id, photo, removed.read_bytes(), without=label, trusted=trusted)

    def world(self, seed: int) -> str:
        """A pair of the world, with its masks; returns its id. Raises InputError: a seed out of range."""
        from tempfile import TemporaryDirectory

        from magictailor.world.pairs import world_pair, write_pair

        pair = world_pair(seed)
        with TemporaryDirectory(prefix="magictailor-world-") as folder:
            written = write_pair(pair, Path(folder) / "pair")
            shutil.rmtree(written / "truth")
            return self.adopt(written, f"{pair.labels[0]} with {pair.labels[1]} {seed}", trusted=True)

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
                self._write(id, _with_photos(pair, sample, kept))
                if instead in photos:
                    self.remove(id, instead)
            else:
                self._write(id, _with_photos(pair, sample, (*photos, name)))
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
            self._write(id, _with_photos(pair, number, tuple(p for p in pair.samples[number].photos if p != photo)))

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
            self._write(id, _with_photos(pair, number, tuple(photos)))

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
            self._write(id, _replaced(pair, sample, new))

    def rename(self, id: str, name: str) -> None:
        with self._lock:
            self._write(id, replace(self.read(id), name=_title(name)))

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
        stem = stem_of(_title(name) + ".x")
        taken = {f.name.removeprefix(".deleted-") for f in self.workspace.pairs.iterdir()}
        return next(id for n in range(1, 10_000) if (id := stem if n == 1 else f"{stem}-{n}") not in taken)

    def _work(self, id: str) -> Path:
        work = self.workspace.pairs / f".new-{id}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        return work


def _check_inside(source: Path, drafts: Sequence[Draft]) -> None:
    """Raises InputError: a file or folder of the pair lies outside it."""
    root = source.resolve() if source.is_dir() else source.parent.resolve()
    for draft in drafts:
        masks = [draft.masks] if isinstance(draft.masks, Path) else list(draft.masks or ())
        for path in (*draft.images, *masks, *draft.excluded):
            if not path.resolve().is_relative_to(root):
                raise InputError(f"{path.name}: lies outside the pair's folder", "put all files into it")


def _title(name: str) -> str:
    """Raises InputError for an empty name; control characters become spaces."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:60]
    if not plain:
        raise InputError("the pair has no name", "write one", field="name")
    return plain


def label_name(label: str) -> str:
    """A label as part of a mask's file name."""
    return label.replace(" ", "_")


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


def _replaced(pair: StudioPair, number: int, sample: StudioSample) -> StudioPair:
    return replace(pair, samples=tuple(sample if n == number else s for n, s in enumerate(pair.samples)))


def _with_photos(pair: StudioPair, number: int, photos: tuple[str, ...]) -> StudioPair:
    return _replaced(pair, number, replace(pair.samples[number], photos=photos))


def photo_size(path: Path) -> tuple[int, int]:
    """Width and height of a photo of the studio as it is shown, from its header."""
    with Image.open(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (width, height)


def summary(store: PairStore, id: str, grids: Mapping[str, Any]) -> dict[str, Any]:
    """All that a page shows of a pair: samples, photos, masks with their coverage, and problems in plain words.

    ``grids``: of a base, see `masks.vanishes`.
    """
    from magictailor.studio.masks import describe_masks

    pair, folder = store.read(id), store.folder(id)
    samples = []
    for number, sample in enumerate(pair.samples):
        others = [s.label for n, s in enumerate(pair.samples) if n != number]
        photos = []
        for photo in sample.photos:
            try:
                width, height = photo_size(folder / PHOTOS / photo)
            except OSError:
                width = height = 0
            shown = {"name": photo, "width": width, "height": height}
            photos.append(shown | describe_masks(folder, photo, others, grids))
        samples.append({"label": sample.label, "word": sample.pseudo_word, "photos": photos})
    return {"id": id, "name": pair.name, "samples": samples, "problems": problems(samples)}


def problems(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    """What keeps the pair from training, in plain words."""
    lines = []
    for sample in samples:
        photos, label = sample["photos"], sample["label"]
        if not photos:
            lines.append(f"{label}: add at least one photo")
        unmasked = [p["name"] for p in photos if p["coverage"] is None or p["coverage"] == 0]
        if unmasked:
            count = f"{len(unmasked)} photos have" if len(unmasked) > 1 else "one photo has"
            lines.append(f"{label}: {count} no mask yet")
        lines += [f"{p['name']}: {p['vanishes']}" for p in photos if p.get("vanishes")]
    return lines
