"""A pair, its samples and their reference images, read from any of the layouts."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.data.images import load_image
from magictailor.data.layouts import Draft, read_layout
from magictailor.data.masks import ReferenceImage, files_of_stem, find_excluded, find_mask, mask_of


@dataclass(frozen=True)
class Sample:
    """A concept or component: its label ("long hair"), pseudo-word ("<long-hair>") and reference images."""

    label: str
    word: str
    references: tuple[ReferenceImage, ...]


@dataclass(frozen=True)
class Pair:
    """One concept and any number of components (none: only the concept)."""

    name: str
    samples: tuple[Sample, ...]

    @property
    def concept(self) -> Sample:
        return self.samples[0]

    @property
    def components(self) -> tuple[Sample, ...]:
        return self.samples[1:]

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(sample.word for sample in self.samples)

    def sample(self, word: str) -> Sample:
        """The sample with this pseudo-word. Raises InputError if there is none."""
        for sample in self.samples:
            if sample.word == word:
                return sample
        raise InputError(f"{word}: not a pseudo-word of this pair", f"choose {' or '.join(self.words)}", field="word")


def read_pair(path: Path | str, *, words: Sequence[str] | None = None) -> Pair:
    """Read a pair from a folder in one of the layouts (see `layouts`), or from a TOML file.

    Args:
        words: one pseudo-word per sample, instead of those in the TOML or made from the labels.

    Raises:
        InputError: the path, a name, an image or a mask is not usable.
    """
    name, drafts = read_layout(path)
    chosen = words_of(drafts, words)
    labels = [draft.label for draft in drafts]
    loaded = [_load(draft, labels[:i] + labels[i + 1 :]) for i, draft in enumerate(drafts)]
    return Pair(name, tuple(map(Sample, labels, chosen, loaded)))


def _load(draft: Draft, others: Sequence[str]) -> tuple[ReferenceImage, ...]:
    """The draft's reference images; masks named after one of the ``others`` (labels) are subtracted."""
    stems = {path.stem for path in draft.images}
    for folder in draft.excluded:
        if not any(files_of_stem(folder, stem) for stem in stems):
            raise InputError(f"{folder}: excludes nothing", f"name its masks like the images ({min(stems)}.png)")
    references, images_of = [], dict[Path, Path]()
    for number, path in enumerate(draft.images):
        image, alpha = load_image(path)
        folder = draft.masks if isinstance(draft.masks, Path) else path.parent / "masks"
        listed = draft.masks[number] if isinstance(draft.masks, tuple) else None
        found = listed or find_mask(path, folder, alpha)
        if isinstance(found, Path) and images_of.setdefault(found, path) != path:
            raise InputError(f"{found}: masks both {images_of[found].name} and {path.name}", "rename one image")
        excluded = find_excluded(path, folder, others, stems) if listed is None else []
        excluded += [mask for folder in draft.excluded for mask in files_of_stem(folder, path.stem)]
        references.append(ReferenceImage.of(path, image, mask_of(path, image.size, found, excluded)))
    return tuple(references)


def words_of(drafts: Sequence[Draft], words: Sequence[str] | None) -> list[str]:
    """One pseudo-word per sample: from ``words``, from the TOML, or made from the label.

    Raises:
        InputError: an invalid word, or one word for two samples.
    """
    if words is not None and len(words) != len(drafts):
        labels = ", ".join(draft.label for draft in drafts)
        raise InputError(
            f"{', '.join(words)}: {len(words)} for {len(drafts)} samples",
            f"give one for each of {labels}",
            field="words",
        )
    chosen: list[str] = []
    for number, draft in enumerate(drafts):
        word = (words[number] if words is not None else draft.word or default_word(draft.label)).strip().lower()
        if not re.fullmatch(r"<[a-z0-9-]+>", word):
            fix = (
                "write it in a pair.toml: word = ..." if word == "<>" else "write it like <ada-2>, with a-z, 0-9 and -"
            )
            raise InputError(f'{word!r}: not a pseudo-word (of "{draft.label}")', fix)
        if word in chosen:
            raise InputError(f"{word}: samples {chosen.index(word)} and {number} share this word", "give each its own")
        chosen.append(word)
    return chosen


def default_word(label: str) -> str:
    """``<label>`` without accents, with a dash for all but letters and digits."""
    plain = unicodedata.normalize("NFKD", label.lower()).encode("ascii", "ignore").decode()
    return f"<{re.sub(r'[^a-z0-9]+', '-', plain).strip('-')}>"
