"""Pairs that exist already, copied into the studio: folders in any layout, and pairs of the world."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from magictailor.common.errors import InputError
from magictailor.data.layouts import Draft, read_layout
from magictailor.data.masks import find_excluded, find_mask
from magictailor.studio.masks import save_mask
from magictailor.studio.pair_file import MASKS
from magictailor.studio.pairs import PairStore


def adopt(store: PairStore, source: Path | str, name: str, *, trusted: bool = False) -> str:
    """Copy a pair in any of the layouts into the studio, with its masks; returns its id.

    Args:
        trusted: nobody else has made its images.

    Raises:
        InputError: no pair there, a photo that cannot be read, or a ``pair.toml`` that names files elsewhere; nothing
            is left behind.
    """
    _, drafts = read_layout(source)
    _check_inside(Path(source), drafts)
    id = store.create(name, [draft.label for draft in drafts])
    try:
        for number, draft in enumerate(drafts):
            if draft.word:
                store.relabel(id, number, draft.label, draft.word)
            for path in draft.images:
                photo = store.add(id, number, path.name, path.read_bytes(), trusted=trusted)
                others = [d.label for d in drafts if d is not draft]
                _adopt_masks(store, id, photo, path, draft, others, trusted)
    except BaseException:
        shutil.rmtree(store.folder(id), ignore_errors=True)
        raise
    return id


def _adopt_masks(
    store: PairStore, id: str, photo: str, path: Path, draft: Draft, others: Sequence[str], trusted: bool
) -> None:
    folder = draft.masks if isinstance(draft.masks, Path) else path.parent / MASKS
    try:
        listed = draft.masks[draft.images.index(path)] if isinstance(draft.masks, tuple) else None
        found = listed or find_mask(path, folder, None)
    except InputError:
        return  # no mask yet
    if isinstance(found, Path):
        save_mask(store, id, photo, found.read_bytes(), trusted=trusted)
    stems = {image.stem for image in draft.images}
    for removed in find_excluded(path, folder, others, stems):
        label = removed.stem.removeprefix(f"{path.stem}.").replace("_", " ")
        save_mask(store, id, photo, removed.read_bytes(), without=label, trusted=trusted)


def adopt_from_world(store: PairStore, seed: int) -> str:
    """A pair of the world, with its masks; returns its id. Raises InputError: a seed out of range."""
    from magictailor.world.pairs import world_pair, write_pair

    pair = world_pair(seed)
    with TemporaryDirectory(prefix="magictailor-world-") as folder:
        written = write_pair(pair, Path(folder) / "pair")
        shutil.rmtree(written / "truth")
        return adopt(store, written, f"{pair.labels[0]} with {pair.labels[1]} {seed}", trusted=True)


def _check_inside(source: Path, drafts: Sequence[Draft]) -> None:
    """Raises InputError: a file or folder of the pair lies outside it."""
    root = source.resolve() if source.is_dir() else source.parent.resolve()
    for draft in drafts:
        masks = [draft.masks] if isinstance(draft.masks, Path) else list(draft.masks or ())
        for path in (*draft.images, *masks, *draft.excluded):
            if not path.resolve().is_relative_to(root):
                raise InputError(f"{path.name}: lies outside the pair's folder", "put all files into it")
