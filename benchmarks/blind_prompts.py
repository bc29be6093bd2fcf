"""Does a person recognise the protocol's 20 prompts at a glance? True images for one who does not know which is which.

    python benchmarks/blind_prompts.py draw FOLDER
    python benchmarks/blind_prompts.py score ANSWERS

`draw` writes numbered sheets of 40 true composites, two of each prompt, shuffled. ANSWERS is a JSON list of 40 names of prompts.
"""

import json
import sys
from pathlib import Path

import numpy as np
from binding import rendered, sheet

from magictailor.generation.protocol import PROMPTS
from magictailor.world.pairs import composite_scene, world_pair

FIRST_PAIR = 100_000_300
NAMES = np.random.default_rng(7).permutation([name for name in PROMPTS for _ in range(2)]).tolist()


def main() -> None:
    verb, path = sys.argv[1], Path(sys.argv[2])
    if verb == "score":
        answers = json.loads(path.read_text("utf-8"))
        wrong = [(i, a, b) for i, (a, b) in enumerate(zip(answers, NAMES, strict=True)) if a != b]
        print(f"{len(NAMES) - len(wrong)} of {len(NAMES)} recognised", *wrong)
        return
    path.mkdir(parents=True, exist_ok=True)
    images = [rendered(composite_scene(world_pair(FIRST_PAIR + i), name)) for i, name in enumerate(NAMES)]
    for first in range(0, len(images), 8):
        numbers = range(first, first + 8)
        sheet([[images[i]] for i in numbers], list(map(str, numbers)), 4, 256).save(path / f"prompts-{first:02d}.png")


if __name__ == "__main__":
    main()
