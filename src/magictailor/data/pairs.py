"""A pair, its samples and their references, read from any of the layouts."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.data.images import load_image
from magictailor.data.layouts import Draft, read_layout
from magictailor.data.masks import Reference, files_of_stem, find_excluded, find_mask, mask_of


@dataclass(frozen=True)
class Sample:
    """A concept or component: its label ("long hair"), its pseudo-word ("<long-hair>"), its images."""

    label: str
    word: str
    references: tuple[Reference, ...]


@dataclass(frozen=True)
class Pair:
    """One concept and any number of components (none: the concept alone)."""

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
        """The sample with that pseudo-word. Raises InputError if there is none."""
        for sample in self.samples:
            if sample.word == word:
                return sample
        raise InputError(f"no pseudo-word {word}: this pair has {', '.join(self.words)}")


def read_pair(path: Path | str, *, words: Sequence[str] | None = None) -> Pair:
    """Read a pair from a folder in one of the layouts (see `layouts`), or from a TOML file.

    ``words``, one a sample, take the place of those in the TOML or made from the labels.

    Raises:
        InputError: the path, a name, an image or a mask is not usable; the message says how to mend it.
    """
    name, drafts = read_layout(path)
    chosen = words_of(drafts, words)
    labels = [draft.label for draft in drafts]
    loaded = [_load(draft, labels[:i] + labels[i + 1 :]) for i, draft in enumerate(drafts)]
    return Pair(name, tuple(map(Sample, labels, chosen, loaded)))


def _load(draft: Draft, others: Sequence[str]) -> tuple[Reference, ...]:
    """The draft's references; masks named after one of the ``others`` (labels) are taken away."""
    stems = {path.stem for path in draft.images}
    for place in draft.excluded:
        if not any(files_of_stem(place, stem) for stem in stems):
            raise InputError(f"{place} excludes nothing: name its masks like the images ({min(stems)}.png)")
    references, users = [], dict[Path, Path]()
    for number, path in enumerate(draft.images):
        image, alpha = load_image(path)
        folder = draft.masks if isinstance(draft.masks, Path) else path.parent / "masks"
        listed = draft.masks[number] if isinstance(draft.masks, tuple) else None
        found = listed or find_mask(path, folder, alpha)
        if isinstance(found, Path) and users.setdefault(found, path) != path:
            raise InputError(f"{found} masks both {users[found].name} and {path.name}: rename one image")
        excluded = find_excluded(path, folder, others, stems) if listed is None else []
        excluded += [mask for place in draft.excluded for mask in files_of_stem(place, path.stem)]
        references.append(Reference.of(path, image, mask_of(path, image.size, found, excluded)))
    return tuple(references)


def words_of(drafts: Sequence[Draft], words: Sequence[str] | None) -> list[str]:
    """One valid, distinct pseudo-word a sample: given, from the TOML, or made from the label."""
    if words is not None and len(words) != len(drafts):
        labels = ", ".join(draft.label for draft in drafts)
        raise InputError(f"{len(words)} words for {len(drafts)} samples: give one each for {labels}")
    chosen: list[str] = []
    for number, draft in enumerate(drafts):
        word = (words[number] if words is not None else draft.word or _word(draft.label)).strip().lower()
        if not re.fullmatch(r"<[a-z0-9-]+>", word):
            fix = "a pair.toml can give it: word = ..." if word == "<>" else "a-z, 0-9, -"
            raise InputError(f'the word {word!r} of "{draft.label}" must look like <ada-2> ({fix})')
        if word in chosen:
            raise InputError(f"samples {chosen.index(word)} and {number} share {word}: give each its own word")
        chosen.append(word)
    return chosen


def _word(label: str) -> str:
    """``<label>``, with accents dropped and a dash for all that is neither a letter nor a digit."""
    plain = unicodedata.normalize("NFKD", label.lower()).encode("ascii", "ignore").decode()
    return f"<{re.sub(r'[^a-z0-9]+', '-', plain).strip('-')}>"
