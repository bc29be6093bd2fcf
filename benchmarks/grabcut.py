"""GrabCut from boxes, against the masks of pairs that have some.

    python benchmarks/grabcut.py FOLDER...

Each pair is copied without its masks; each picture's box is the one around its mask. Where `masks/others/` has the whole
thing, component and all, the concept's box is around that, and the component is taken away by its own box. Prints intersection over union, image by image.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magictailor.data import read_pair
from magictailor.segmentation import load_segmenter, make_masks
from magictailor.segmentation.regions import box_of


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


def main() -> None:
    for folder in map(Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as work:
            bare = Path(work) / folder.name
            shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("masks"))
            made = make_masks(bare, load_segmenter("grabcut", boxes=boxes(folder)))
            given = {r.path.name: r.mask for s in read_pair(folder).samples for r in s.references}
            for m in made:
                if m.mask is None:
                    print(f"{folder.name} {m.image.name}: {m.note}")
                    continue
                found, wanted = (np.asarray(i) > 127 for i in (Image.open(m.mask), given[m.image.name]))
                print(f"{folder.name} {m.image.name}: {(found & wanted).sum() / (found | wanted).sum():.2f}")


if __name__ == "__main__":
    main()
