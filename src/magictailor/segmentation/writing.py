"""From a pair without masks to one with masks: what was found is written, what was there is kept."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.common.files import write_json
from magictailor.common.pictures import save_png
from magictailor.data import overview, read_pair
from magictailor.data.images import load_image
from magictailor.data.layouts import Draft, read_layout
from magictailor.data.masks import find_mask, mask_files, read_mask
from magictailor.data.pairs import words_of
from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.regions import Floats, chosen, united, without

THRESHOLD = 0.25  # of GroundingDINO in the paper
PAIRED = ("eye", "ear", "brow", "wheel", "window", "glove", "shoe")  # what comes in twos
SUMMARY = "found"  # in the masks' folder; its picture in a folder "masks" again, which no pattern finds


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


@dataclass(frozen=True)
class _Task:
    """One image, and where its mask goes; ``kept``: the mask that it has already, as it will be found."""

    number: int
    label: str
    path: Path
    image: Image.Image
    target: Path
    kept: Path | None


def _task(number: int, draft: Draft, path: Path) -> _Task:
    image, alpha = load_image(path)
    if isinstance(draft.masks, tuple):
        listed = draft.masks[draft.images.index(path)]
        if listed.suffix.lower() != ".png":
            raise InputError(f"{listed}: masks are written as PNG; list {listed.with_suffix('.png').name} instead")
        return _Task(number, draft.label, path, image, listed, listed)
    folder = draft.masks or path.parent / "masks"
    found = find_mask(path, folder, alpha) if alpha is not None or mask_files(path, folder) else None
    kept = found if isinstance(found, Path) else None if found is None else path  # its own alpha channel
    if isinstance(found, Path):
        read_mask(found, path, image.size)  # of another size: said before any work
        return _Task(number, draft.label, path, image, found.with_suffix(".png"), kept)
    return _Task(number, draft.label, path, image, folder / f"{path.stem}.png", kept)


def _plan(drafts: Sequence[Draft]) -> list[_Task]:
    """All that can be refused is refused here. Raises InputError."""
    words_of(drafts, None)
    tasks = [_task(i, draft, path) for i, draft in enumerate(drafts) for path in draft.images]
    owners: dict[Path, _Task] = {}
    for task in tasks:
        if (other := owners.setdefault(task.target, task)) is not task:
            raise InputError(
                f"{other.path} and {task.path} would share the mask {task.target}: rename one image, or give each "
                "sample a masks folder of its own in a pair.toml"
            )
    return tasks


def masked(
    task: _Task, parts: Sequence[str], segmenter: Segmenter, threshold: float, counts: Mapping[str, int], soft: bool
) -> tuple[Floats, Made]:
    """The mask without the ``parts``, and what became of it.

    A part that is not found takes nothing away, and is named in the note; where the label itself is not found, the
    mask is empty.
    """
    found = segmenter.find(task.image, task.path, [task.label, *parts])
    picked = {w: chosen(found.get(w, []), threshold, regions_of(w, counts)) for w in (task.label, *parts)}
    unions = {word: united(regions, task.image.size) for word, regions in picked.items()}
    mask = without(unions[task.label], [unions[part] for part in parts])
    mask = mask if soft else (mask > 0.5).astype(float)
    surest = max((r.score for r in found.get(task.label, [])), default=0.0)
    if mask.max() <= 0.5:
        note = _advice(task.label, surest, threshold) + ("; the mask before is kept" if task.kept else "")
        return mask, Made(task.path, task.label, None, surest, 0, 0.0, note)
    absent = [part for part in parts if not picked[part]]
    note = f"{' and '.join(absent)} not found, so not taken away" if absent else ""
    count = len(picked[task.label])
    return mask, Made(task.path, task.label, task.target, surest, count, float(mask.mean()), note)


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
        InputError: no pair there, an image cannot be read, two images would share a mask, a count or a box that
            fits nothing; nothing has been written.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"--threshold {threshold:g}: choose one in 0 .. 1")
    _, drafts = read_layout(pair)
    labels, counts = [d.label for d in drafts], counts or {}
    if stray := [label for label in counts if label not in labels]:
        raise InputError(f"--count {stray[0]}: no sample has this label; they are {', '.join(labels)}")
    tasks = _plan(drafts)
    segmenter.check({task.path: task.image for task in tasks}, labels)
    made = []
    for done, task in enumerate(tasks, 1):
        if task.kept is not None and not overwrite:
            made.append(Made(task.path, task.label, task.kept, None, 0, 0.0, "kept"))
        else:
            mask, outcome = masked(task, labels[1:] if task.number == 0 else [], segmenter, threshold, counts, soft)
            made.append(outcome)
            if not outcome.missing:
                _write(mask, task)
        watch(done, len(tasks))
    if not any(m.missing for m in made):
        _summarise(Path(pair).expanduser().absolute(), made)
    return made


def _write(mask: Floats, task: _Task) -> None:
    save_png(Image.fromarray((mask * 255).round().astype(np.uint8)), task.target)
    if task.kept is not None and task.kept not in (task.target, task.path):  # a mask of another kind of file
        task.kept.unlink()


def _summarise(place: Path, made: Iterable[Made]) -> None:
    """In the pair's own folder: an overview with the masks drawn in, and what it was sure of."""
    folder = (place if place.is_dir() else place.parent) / "masks" / SUMMARY
    save_png(overview(read_pair(place)), folder / "masks" / "overview.png")
    rows = [
        {"image": m.image.name, "label": m.label, "score": m.score, "regions": m.regions, "note": m.note} for m in made
    ]
    write_json(folder / "scores.json", rows)
