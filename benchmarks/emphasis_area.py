"""In how much of the image should emphasis act? Finished runs of a bench, drawn with several strengths and areas.

    python benchmarks/emphasis_area.py FOLDER [--method without-dm-deg]

FOLDER is one of `magictailor bench run benchmarks/emphasis.toml` with its runs. Prints means over pairs.
"""

import argparse
from collections import defaultdict
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from redrawn import finished, scores

from magictailor.backbones.guidance import most_different

VARIANTS = ((0, 1), (0.8, 1), (0.8, 0.3), (1.2, 0.15), (1.2, 0.3))  # strength and area
METRICS = ("identity", "concept error", "component error", "pollution", "kid")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", default="without-dm-deg")
    options = parser.parse_args()
    found: dict[tuple[float, float], dict[str, list[float]]] = {v: defaultdict(list) for v in VARIANTS}
    for pair, run in finished(options.folder, options.method):
        for strength, area in VARIANTS:
            with patch("magictailor.backbones.guidance.most_different", partial(most_different, area=area)):
                own = scores(pair, run, emphasis=strength)
            for metric in METRICS:
                if metric in own:
                    found[strength, area][metric].append(own[metric])
        print(pair.seed, flush=True)
    for (strength, area), values in found.items():
        print(f"{strength} in {area:.0%}", {m: round(float(np.mean(v)), 3) for m, v in values.items()})


if __name__ == "__main__":
    main()
