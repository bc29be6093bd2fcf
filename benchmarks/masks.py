"""Masks that are made, against the masks that are given or true.

    python benchmarks/masks.py grabcut FOLDER...
    python benchmarks/masks.py world --pairs 40

`grabcut`: each pair is copied without its masks; each picture's box is the one around its mask. Where `masks/others/` has
the whole thing, component and all, the concept's box is around that, and the component is taken away by its own box.
`world`: pairs of seeds that nobody trains on, masks by the world's segmenter from words alone; 0 where nothing is found.
Prints intersection over union: image by image, or by label.
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
from magictailor.segmentation.regions import box_of
from magictailor.world.checks import FIRST_SEED
from magictailor.world.pairs import world_pair, write_pair


def boxes(folder: Path) -> list[str]:
    """`--box` of every picture, from the masks that are there."""
    pair, texts = read_pair(folder), []

    def add(name: str, inside: NDArray[np.bool_]) -> None:
        texts.append(f"{name}={','.join(f'{v:g}' for v in box_of(inside.astype(float)))}")

    for sample in pair.samples:
        for reference in sample.references:
            name, own = reference.path.name, np.asarray(reference.mask) > 127
            whole = folder / "masks" / "others" / f"{reference.path.stem}.png"
            if sample is pair.concept and pair.components and whole.exists():
                all_of_it = np.asarray(Image.open(whole).convert("L")) > 127
                add(name, all_of_it)
                add(f"{name}:{pair.components[0].label}", all_of_it & ~own)
            else:
                add(name, own)
    return texts


def overlaps(folder: Path, segmenter: Segmenter) -> list[tuple[str, str, float]]:
    """Label, file and intersection over union of each picture; the pair is copied without its masks."""
    given = {r.path.name: r.mask for sample in read_pair(folder).samples for r in sample.references}
    rows = []
    with tempfile.TemporaryDirectory() as work:
        bare = Path(work) / folder.name
        shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("masks", "truth"))
        for made in make_masks(bare, segmenter):
            shared = 0.0
            if made.mask is not None:
                found, wanted = (np.asarray(i) > 127 for i in (Image.open(made.mask), given[made.image.name]))
                shared = float((found & wanted).sum() / (found | wanted).sum())
            rows.append((made.label, made.image.name, shared))
    return rows


def world(count: int) -> None:
    rows, segmenter = [], load_segmenter("embedded")
    with tempfile.TemporaryDirectory() as work:
        for seed in range(FIRST_SEED + 5000, FIRST_SEED + 5000 + count):
            rows += overlaps(write_pair(world_pair(seed), Path(work) / str(seed)), segmenter)
    values = [share for _, _, share in rows]
    print(f"{len(rows)} pictures: mean {np.mean(values):.2f}, median {np.median(values):.2f}, {values.count(0.0)} at 0")
    for label in sorted({label for label, _, _ in rows}):
        own = [share for name, _, share in rows if name == label]
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
        for _, file, share in overlaps(folder, load_segmenter("grabcut", boxes=boxes(folder))):
            print(f"{folder.name} {file}: {share:.2f}")


if __name__ == "__main__":
    main()
