"""Make masks for a pair: write those that are found, keep those that exist."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.common.events import Listener, Progress, ignore
from magictailor.common.files import write_json
from magictailor.common.pictures import save_png
from magictailor.data import overview, read_pair
from magictailor.data.images import load_image
from magictailor.data.layouts import Draft, read_layout
from magictailor.data.masks import find_mask, mask_files, read_mask
from magictailor.data.pairs import words_of
from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.regions import Floats, best_regions, subtract, union

THRESHOLD = 0.25  # of GroundingDINO in the paper
PAIRED = ("eye", "ear", "brow", "wheel", "window", "glove", "shoe")  # labels that come in twos
SUMMARY = "found"  # in the masks' folder; its image lies in a folder "masks" again, where no pattern finds it


@dataclass(frozen=True)
class MaskResult:
    """The outcome for one image.

    ``mask``: its file, None if nothing was found. ``score``: of the best region, None if an existing mask was kept.
    ``regions``: number of regions in the mask. ``coverage``: the fraction of the image that it covers.
    """

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
    """The number of regions in a label's mask: as given, else two for what comes in pairs, else one."""
    if label in counts:
        return counts[label]
    singular = {label.lower().split()[-1].removesuffix("s")} if label.split() else set()
    return 2 if singular & set(PAIRED) else 1


def read_counts(texts: Iterable[str]) -> dict[str, int]:
    """``["ears=2"]`` to ``{"ears": 2}``. Raises InputError for other forms."""
    counts = {}
    for text in texts:
        label, _, number = text.rpartition("=")
        if not label or not number.isdecimal() or int(number) < 1:
            raise InputError(f"{text}: not a count", "write LABEL=2, a whole number from 1", field="counts")
        counts[label] = int(number)
    return counts


@dataclass(frozen=True)
class _Task:
    """One image and its mask's path. ``sample``: its number. ``existing``: the file of the mask that it already has."""

    sample: int
    label: str
    path: Path
    image: Image.Image
    target: Path
    existing: Path | None


def _task(sample: int, draft: Draft, path: Path) -> _Task:
    image, alpha = load_image(path)
    if isinstance(draft.masks, tuple):
        listed = draft.masks[draft.images.index(path)]
        if listed.suffix.lower() != ".png":
            raise InputError(f"{listed}: masks are written as PNG", f"list {listed.with_suffix('.png').name} instead")
        return _Task(sample, draft.label, path, image, listed, listed)
    folder = draft.masks or path.parent / "masks"
    found = find_mask(path, folder, alpha) if alpha is not None or mask_files(path, folder) else None
    if isinstance(found, Path):
        read_mask(found, path, image.size)  # refuses a mask of another size before any work
        return _Task(sample, draft.label, path, image, found.with_suffix(".png"), found)
    existing = None if found is None else path  # its own alpha channel
    return _Task(sample, draft.label, path, image, folder / f"{path.stem}.png", existing)


def _plan(drafts: Sequence[Draft]) -> list[_Task]:
    """One task per image. Raises InputError for all that can be refused before the work."""
    words_of(drafts, None)
    tasks = [_task(i, draft, path) for i, draft in enumerate(drafts) for path in draft.images]
    owners: dict[Path, _Task] = {}
    for task in tasks:
        if (other := owners.setdefault(task.target, task)) is not task:
            raise InputError(
                f"{other.path} and {task.path} would share the mask {task.target}",
                "rename one image, or give each sample a masks folder of its own in a pair.toml",
            )
    return tasks


def make_mask(
    task: _Task,
    components: Sequence[str],
    segmenter: Segmenter,
    threshold: float,
    counts: Mapping[str, int],
    soft: bool,
) -> tuple[Floats, MaskResult]:
    """The mask of the task's label without the ``components``, and the outcome.

    A component that is not found is not subtracted; the note names it. If the label itself is not found, the mask is
    empty.
    """
    found = segmenter.find(task.image, task.path, [task.label, *components])
    best = {w: best_regions(found.get(w, []), threshold, regions_of(w, counts)) for w in (task.label, *components)}
    unions = {word: union(regions, task.image.size) for word, regions in best.items()}
    mask = subtract(unions[task.label], [unions[component] for component in components])
    mask = mask if soft else (mask > 0.5).astype(float)
    score = max((r.score for r in found.get(task.label, [])), default=0.0)
    if mask.max() <= 0.5:
        note = _advice(task.label, score, threshold) + ("; the existing mask is kept" if task.existing else "")
        return mask, MaskResult(task.path, task.label, None, score, 0, 0.0, note)
    missing = [component for component in components if not best[component]]
    note = f"{' and '.join(missing)} not found, so not subtracted" if missing else ""
    count = len(best[task.label])
    return mask, MaskResult(task.path, task.label, task.target, score, count, float(mask.mean()), note)


def _advice(label: str, score: float, threshold: float) -> str:
    if score >= threshold:
        return f"{label}: all of it belongs to another component; draw this mask by hand, or use grabcut with boxes"
    if score > 0:
        return (
            f"{label}: the best score is {score:.2f}; try threshold {score * 0.9:.2f}, another word, or draw the mask"
        )
    return f"{label}: nothing found; try another word for it, model grabcut with a box, or draw the mask"


def make_masks(
    pair: Path | str,
    segmenter: Segmenter,
    *,
    threshold: float = THRESHOLD,
    counts: Mapping[str, int] | None = None,
    soft: bool = False,
    overwrite: bool = False,
    listen: Listener = ignore,
) -> list[MaskResult]:
    """Write ``masks/<stem>.png`` for each image of a pair from its label, the concept's without the components.

    Args:
        pair: a folder or TOML as `read_pair` reads, with or without masks.
        threshold: the lowest score of a region, 0 .. 1.
        counts: the number of regions in a label's mask, where it is not one (two for eyes, ears, wheels, windows).
        soft: keep soft edges.
        overwrite: replace existing masks.

    Returns:
        The outcome for each image. Where nothing was found, ``mask`` is None and ``note`` says what to try.

    Raises:
        InputError: there is no pair, an image cannot be read, two images would share a mask, or a count or a box
            matches nothing; nothing has been written.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"{threshold:g}: out of range", "choose one in 0 .. 1", field="threshold")
    _, drafts = read_layout(pair)
    labels, counts = [d.label for d in drafts], counts or {}
    if stray := [label for label in counts if label not in labels]:
        raise InputError(f"{stray[0]}: no sample has this label", f"choose one of {', '.join(labels)}", field="counts")
    tasks = _plan(drafts)
    segmenter.check({task.path: task.image for task in tasks}, labels)
    results = []
    for done, task in enumerate(tasks, 1):
        if task.existing is not None and not overwrite:
            results.append(MaskResult(task.path, task.label, task.existing, None, 0, 0.0, "kept"))
        else:
            components = labels[1:] if task.sample == 0 else []
            mask, result = make_mask(task, components, segmenter, threshold, counts, soft)
            results.append(result)
            if not result.missing:
                _write(mask, task)
        listen(Progress("masks", done, len(tasks)))
    if not any(result.missing for result in results):
        _write_summary(Path(pair).expanduser().absolute(), results)
    return results


def _write(mask: Floats, task: _Task) -> None:
    save_png(Image.fromarray((mask * 255).round().astype(np.uint8)), task.target)
    if task.existing is not None and task.existing not in (task.target, task.path):  # a mask in another file format
        task.existing.unlink()


def _write_summary(pair: Path, results: Iterable[MaskResult]) -> None:
    """In the pair's own folder: an overview with the masks drawn in, and the scores."""
    folder = (pair if pair.is_dir() else pair.parent) / "masks" / SUMMARY
    save_png(overview(read_pair(pair)), folder / "masks" / "overview.png")
    rows = [
        {"image": r.image.name, "label": r.label, "score": r.score, "regions": r.regions, "note": r.note}
        for r in results
    ]
    write_json(folder / "scores.json", rows)
