"""What a studio's ``pair.toml`` says: samples with their labels, pseudo-words and photos."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from magictailor.common.errors import InputError
from magictailor.common.records import parsed_toml
from magictailor.data.pairs import default_word
from magictailor.studio.workspace import NotThere

PAIR_FILE, PHOTOS, MASKS = "pair.toml", "photos", "masks"
LABEL = re.compile(r"[^\W_][\w '-]{0,39}")  # letters, digits, spaces, - and '
MOST_SAMPLES = 9


@dataclass(frozen=True)
class StudioSample:
    """A sample in the making. ``word``: its pseudo-word; None: made from the label. ``photos``: names in ``photos/``."""

    label: str
    photos: tuple[str, ...] = ()
    word: str | None = None

    @property
    def pseudo_word(self) -> str:
        return self.word or default_word(self.label)


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

    def with_sample(self, number: int, sample: StudioSample) -> "StudioPair":
        return replace(self, samples=tuple(sample if n == number else s for n, s in enumerate(self.samples)))

    def with_photos(self, number: int, photos: Sequence[str]) -> "StudioPair":
        return self.with_sample(number, replace(self.samples[number], photos=tuple(photos)))

    @classmethod
    def from_toml(cls, text: str) -> "StudioPair":
        """Raises ValueError, KeyError or TypeError for a file that was not made here."""
        table = parsed_toml(text)
        samples = [
            StudioSample(s["label"], tuple(Path(p).name for p in s["images"]), s.get("word")) for s in table["samples"]
        ]
        return cls(str(table["name"]), tuple(samples))

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
        raise InputError(
            f"{checked[words.index('<>')]}: has no letter a-z and no digit",
            "write it in letters a-z, for instance person: its pseudo-word is made of them",
            field="label",
        )
    if len(set(words)) < len(words):
        raise InputError(f"{checked[-1]}: two samples have this label", "give each its own", field="label")
    return checked


def checked_title(name: str) -> str:
    """Raises InputError for an empty name; control characters become spaces."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:60]
    if not plain:
        raise InputError("the pair has no name", "write a name, for instance my dog", field="name")
    return plain


def label_name(label: str) -> str:
    """A label as part of a mask's file name."""
    return label.replace(" ", "_")


def photo_size(path: Path) -> tuple[int, int]:
    """Width and height of a photo of the studio as it is shown, from its header."""
    return photo_header(path)[:2]


def photo_header(path: Path) -> tuple[int, int, bool]:
    """Width and height of a photo as it is shown, and whether the camera's note on its orientation turns or mirrors it."""
    with Image.open(path) as image:
        (width, height), turned = image.size, image.getexif().get(0x0112, 1)
        return (height, width, True) if turned in (5, 6, 7, 8) else (width, height, turned in (2, 3, 4))
