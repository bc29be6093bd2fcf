"""What is lost: the errors of a bench's images by part of the concept and of the component, as the judge reads them.

    python benchmarks/lost.py FOLDER [--methods magictailor,captions,truth]

FOLDER is one of `magictailor bench run` with its images. Prints means over pairs, 0 .. 1.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from magictailor.evaluate.metrics.identity import belief_error, color_error, concept_errors, other_cells
from magictailor.evaluate.metrics.judging import judge_network, read_truths
from magictailor.evaluate.metrics.prompts import parse_prompt
from magictailor.world.judgement import judged
from magictailor.world.pairs import WorldPair, world_pair


def errors(pair: WorldPair, file: Path) -> Iterator[tuple[str, float]]:
    """Of one image, by part; nothing for prompts that do not name both."""
    image = Image.open(file)
    parsed = parse_prompt(image.info["prompt"], pair.words)
    if parsed is None or not parsed.both:
        return
    true, (seen,) = read_truths(judge_network(), pair, parsed).requested, judged(judge_network(), [image])
    category, component = pair.concept.category, true.components.get((pair.component.category, pair.kind))
    if category in seen.concepts and category in true.concepts:
        cells = [cell for cell in other_cells(pair.concept, pair.component) if cell in true.components]
        yield from concept_errors(seen, true, category, cells).items()
    if component is not None:
        found = seen.component(pair.kind)
        yield "component missing", float(found is None)
        if found is not None:
            yield "component color", color_error(found.color, component.color)
            same = found.category == component.category
            yield "component variant", belief_error(found.belief, component.belief) if same else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", default="magictailor,captions,truth")
    options = parser.parse_args()
    for method in options.methods.split(","):
        found: dict[str, list[float]] = defaultdict(list)
        for home in sorted((options.folder / "images").glob("world-*")):
            pair, own = world_pair(int(home.name.removeprefix("world-"))), defaultdict[str, list[float]](list)
            for file in sorted((home / method).glob("*.png")):
                for part, error in errors(pair, file):
                    own[part].append(error)
            for part, values in own.items():
                found[part].append(float(np.mean(values)))
        print(method, {part: round(float(np.mean(values)), 2) for part, values in found.items()}, flush=True)


if __name__ == "__main__":
    main()
