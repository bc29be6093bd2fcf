"""From a pair without masks to one with masks: what was found is written, what was there is kept."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from magictailor.data import overview, read_pair
from magictailor.data.images import load_image
from magictailor.data.layouts import Draft, drafts_of
from magictailor.data.masks import find_mask, mask_files
from magictailor.errors import InputError
from magictailor.files import write_json
from magictailor.pictures import save_png
from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.regions import Floats, chosen, united, without

THRESHOLD = 0.25  # of GroundingDINO in the paper
PAIRED = ("eye", "ear", "brow", "wheel", "window", "glove", "shoe")  # what comes in twos
SUMMARY = "found"  # in the masks' folder, where no layout looks


@dataclass(frozen=True)
class Made:
    """One image's outcome. ``mask``: where it is, None: not found; ``score``: of the surest region, None: kept as it was."""

    image: Path
    label: str
    mask: Path | None
    score: float | None
    regions: int
    coverage: float
    note: str = ""

    @property
    def missing(self) -> bool:
        return self.mask is None


def regions_of(label: str, counts: Mapping[str, int]) -> int:
    """How many regions make a label's mask: as given, else two for what comes in pairs, else one."""
    if label in counts:
        return counts[label]
    singular = {label.lower().split()[-1].removesuffix("s")} if label.split() else set()
    return 2 if singular & set(PAIRED) else 1


def read_counts(texts: Iterable[str]) -> dict[str, int]:
    """``["ears=2"]`` to ``{"ears": 2}``. Raises InputError for what is no count."""
    counts = {}
    for text in texts:
        label, _, number = text.rpartition("=")
        if not label or not number.isdecimal() or int(number) < 1:
            raise InputError(f"--count {text}: write LABEL=2, a whole number from 1")
        counts[label] = int(number)
    return counts


def _folder(draft: Draft, image: Path) -> Path:
    return draft.masks if isinstance(draft.masks, Path) else image.parent / "masks"


def _there(draft: Draft, image: Path, alpha: Image.Image | None) -> Path | None:
    """The mask that the image has already: a file, or the image itself for its alpha channel."""
    if isinstance(draft.masks, tuple):
        return draft.masks[draft.images.index(image)]
    if alpha is None and not mask_files(image, _folder(draft, image)):
        return None
    found = find_mask(image, _folder(draft, image), alpha)
    return found if isinstance(found, Path) else image


def masked(
    image: Image.Image,
    path: Path,
    label: str,
    parts: Sequence[str],
    segmenter: Segmenter,
    threshold: float,
    counts: Mapping[str, int],
    soft: bool,
) -> tuple[Floats, float, int]:
    """The label's mask without its ``parts``, its surest score, and of how many regions it is made.

    A part that is not found takes nothing away; where the label itself is not found, the mask is empty.
    """
    found = segmenter.find(image, path, [label, *parts])
    picked = {word: chosen(found.get(word, []), threshold, regions_of(word, counts)) for word in (label, *parts)}
    unions = {word: united(regions, image.size) for word, regions in picked.items()}
    mask = without(unions[label], [unions[part] for part in parts])
    surest = max((r.score for r in found.get(label, [])), default=0.0)
    return (mask if soft else (mask > 0.5).astype(float)), surest, len(picked[label])


def _advice(label: str, surest: float, threshold: float) -> str:
    if surest >= threshold:
        return f"{label}: all of it belongs to another part; draw this mask by hand, or give the parts boxes"
    if surest > 0:
        return f"{label}: at most {surest:.2f} sure; try --threshold {surest * 0.9:.2f}, another word, or draw it"
    return f"{label}: nothing found; try another word for it, a box (--model grabcut), or draw it"


def make_masks(
    pair: Path | str,
    segmenter: Segmenter,
    *,
    threshold: float = THRESHOLD,
    counts: Mapping[str, int] | None = None,
    soft: bool = False,
    overwrite: bool = False,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> list[Made]:
    """Write ``masks/<stem>.png`` for each image of a pair from its label, the concept's without the components.

    Args:
        pair: a folder or TOML as `read_pair` reads, masks or none.
        threshold: how sure a region must be, 0 .. 1.
        counts: how many regions make a label's mask, where it is not one (two for eyes, ears, wheels, windows).
        soft: keep soft edges.
        overwrite: make masks anew where there are some.

    Returns:
        What became of each image. Where nothing was found, ``mask`` is None and ``note`` says what to try.

    Raises:
        InputError: no pair there, or an image cannot be read; nothing has been written.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"--threshold {threshold:g}: choose one in 0 .. 1")
    place = Path(pair).expanduser().absolute()
    _, drafts = drafts_of(place)
    labels = [d.label for d in drafts]
    work = [(i, d, image) for i, d in enumerate(drafts) for image in d.images]
    opened = {image: load_image(image) for _, _, image in work}  # all of them, before anything is written
    there = {image: _there(draft, image, opened[image][1]) for _, draft, image in work}
    made = []
    for done, (number, draft, image) in enumerate(work, 1):
        if there[image] is not None and not overwrite:
            made.append(Made(image, draft.label, there[image], None, 0, 0.0, "kept"))
        else:
            parts = labels[1:] if number == 0 else []
            mask, surest, regions = masked(
                opened[image][0], image, draft.label, parts, segmenter, threshold, counts or {}, soft
            )
            target = _folder(draft, image) / f"{image.stem}.png"
            made.append(_write(mask, image, target, draft.label, surest, regions, threshold))
        watch(done, len(work))
    if not any(m.missing for m in made):
        _summarise(place, made)
    return made


def _write(mask: Floats, image: Path, target: Path, label: str, surest: float, regions: int, threshold: float) -> Made:
    if mask.max() <= 0.5:
        return Made(image, label, None, surest, 0, 0.0, _advice(label, surest, threshold))
    save_png(Image.fromarray((mask * 255).round().astype(np.uint8)), target)
    return Made(image, label, target, surest, regions, float(mask.mean()))


def _summarise(place: Path, made: Iterable[Made]) -> None:
    """Beside the masks: an overview with the masks drawn in, and what it was sure of."""
    folder = (place if place.is_dir() else place.parent) / "masks" / SUMMARY
    save_png(overview(read_pair(place)), folder / "overview.png")
    rows = [
        {"image": m.image.name, "label": m.label, "score": m.score, "regions": m.regions, "note": m.note} for m in made
    ]
    write_json(folder / "scores.json", rows)
