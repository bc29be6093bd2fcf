"""What a page shows of a pair: its photos, its masks, and what keeps it from training."""

from collections.abc import Mapping, Sequence
from typing import Any

from magictailor.studio.masks import describe_masks
from magictailor.studio.pair_file import PHOTOS, photo_header
from magictailor.studio.pairs import PairStore


def summary(store: PairStore, id: str, grids: Mapping[str, Any]) -> dict[str, Any]:
    """All that a page shows of a pair: samples, photos, masks with their coverage, and problems in plain words.

    ``grids``: of a base, see `masks.too_small`.
    """
    pair, folder = store.read(id), store.folder(id)
    samples = []
    for number, sample in enumerate(pair.samples):
        others = [s.label for n, s in enumerate(pair.samples) if n != number]
        photos = []
        for photo in sample.photos:
            try:
                width, height, turned = photo_header(folder / PHOTOS / photo)
            except OSError:
                width, height, turned = 0, 0, False
            shown = {"name": photo, "width": width, "height": height, "note": _note(width, height, turned, grids)}
            photos.append(shown | describe_masks(folder, photo, others, grids))
        samples.append({"label": sample.label, "word": sample.pseudo_word, "photos": photos})
    return {"id": id, "name": pair.name, "samples": samples, "problems": problems(samples)}


def _note(width: int, height: int, turned: bool, grids: Mapping[str, Any]) -> str:
    """What is worth knowing of a photo, and keeps nothing from training."""
    size = max((size for size, _ in grids.values()), default=0)
    if not width:
        return "cannot be read: replace it"
    if min(width, height) < size:
        return f"smaller than the {size} pixels that are trained: it will be blurred"
    return "turned upright, as the camera noted" if turned else ""


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
        lines += [f"{p['name']}: {p['too_small']}" for p in photos if p.get("too_small")]
    return lines
