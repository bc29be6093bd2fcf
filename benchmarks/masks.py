"""Overlap of segmented masks with given or true masks.

    python benchmarks/masks.py grabcut FOLDER...
    python benchmarks/masks.py world --pairs 40

`grabcut`: each pair is copied without its masks, and each image's box is the one around its mask. If `masks/others/` has a
mask of the whole subject with its component, the concept's box is around that, and the component gets a box of its own.
`world`: pairs with seeds that no training uses, segmented by the world's judge; 0 where nothing is found. Prints
intersection over union, per image or per label.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magictailor.data import read_pair
from magictailor.segmentation import Segmenter, load_segmenter, make_masks
from magictailor.segmentation.regions import bounding_box
from magictailor.world.checks import FIRST_SEED
from magictailor.world.pairs import world_pair, write_pair


def boxes(folder: Path) -> list[str]:
    """A box for every image, from the given masks."""
    pair, texts = read_pair(folder), []

    def add(name: str, inside: NDArray[np.bool_]) -> None:
        texts.append(f"{name}={','.join(f'{v:g}' for v in bounding_box(inside.astype(float)))}")

    for sample in pair.samples:
        for reference in sample.references:
            name, own = reference.path.name, np.asarray(reference.mask) > 127
            whole = folder / "masks" / "others" / f"{reference.path.stem}.png"
            if sample is pair.concept and pair.components and whole.exists():
                everything = np.asarray(Image.open(whole).convert("L")) > 127
                add(name, everything)
                add(f"{name}:{pair.components[0].label}", everything & ~own)
            else:
                add(name, own)
    return texts


def overlaps(folder: Path, segmenter: Segmenter) -> list[tuple[str, str, float]]:
    """Label, file and intersection over union of each image; the pair is copied without its masks."""
    given = {r.path.name: r.mask for sample in read_pair(folder).samples for r in sample.references}
    rows = []
    with tempfile.TemporaryDirectory() as work:
        bare = Path(work) / folder.name
        shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("masks", "truth"))
        for result in make_masks(bare, segmenter):
            overlap = 0.0
            if result.mask is not None:
                found, true = (np.asarray(i) > 127 for i in (Image.open(result.mask), given[result.image.name]))
                overlap = float((found & true).sum() / (found | true).sum())
            rows.append((result.label, result.image.name, overlap))
    return rows


def world(count: int) -> None:
    rows, segmenter = [], load_segmenter("embedded")
    with tempfile.TemporaryDirectory() as work:
        for seed in range(FIRST_SEED + 5000, FIRST_SEED + 5000 + count):
            rows += overlaps(write_pair(world_pair(seed), Path(work) / str(seed)), segmenter)
    values = [overlap for _, _, overlap in rows]
    print(f"{len(rows)} images: mean {np.mean(values):.2f}, median {np.median(values):.2f}, {values.count(0.0)} at 0")
    for label in sorted({label for label, _, _ in rows}):
        own = [overlap for name, _, overlap in rows if name == label]
        print(f"{label:8} {np.mean(own):.2f} ({len(own)})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("grabcut").add_argument("folders", nargs="+", type=Path)
    verbs.add_parser("world").add_argument("--pairs", type=int, default=40)
    options = parser.parse_args()
    if options.verb == "world":
        world(options.pairs)
        return
    for folder in options.folders:
        for _, file, overlap in overlaps(folder, load_segmenter("grabcut", boxes=boxes(folder))):
            print(f"{folder.name} {file}: {overlap:.2f}")


if __name__ == "__main__":
    main()
