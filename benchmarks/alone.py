"""Is a subject not learned, or only lost when both are in one image? Runs of a bench draw each alone, and both together.

    python benchmarks/alone.py --bench FOLDER [--methods magictailor,plain-lora] [--pairs 12] [--number 4]

The judge's errors against the true image, 0 .. 1, as means over pairs and images: the concept's colours, identity (face, pattern,
shape) and other components; the component's colour and variant, where it was found.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from magictailor import load
from magictailor.evaluate.metrics.identity import belief_error, color_error, concept_errors, other_cells
from magictailor.training.run_folder import is_finished
from magictailor.world.judge import load_judge
from magictailor.world.judgement import Judgement, judged
from magictailor.world.pairs import WorldPair, component_scene, composite_scene, concept_scene, world_pair
from magictailor.world.render import render

SCENES = {"concept alone": concept_scene, "component alone": component_scene, "both": composite_scene}
PROMPTS = {"concept alone": "a photo of {0}", "component alone": "a photo of {1}", "both": "a photo of {0} with {1}"}


def concept(seen: Judgement, true: Judgement, pair: WorldPair) -> dict[str, float]:
    category = pair.concept.category
    if category not in seen.concepts or category not in true.concepts:
        return {"concept found": 0.0}
    errors = concept_errors(seen, true, category, other_cells(pair.concept, pair.component))
    return {"concept found": 1.0, **{f"concept's {name}": value for name, value in errors.items()}}


def component(seen: Judgement, true: Judgement, pair: WorldPair) -> dict[str, float]:
    found, wanted = seen.component(pair.kind), true.component(pair.kind)
    if found is None or wanted is None:
        return {"component found": 0.0}
    variant = belief_error(found.belief, wanted.belief) if found.category == wanted.category else 1.0
    color = color_error(found.color, wanted.color)
    return {"component found": 1.0, "component's color": color, "component's variant": variant}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--methods", default="magictailor")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--number", type=int, default=4)
    options = parser.parse_args()
    network, homes = load_judge(), sorted((options.bench / "runs").glob("world-*"))[: options.pairs]
    for method in options.methods.split(","):
        found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in SCENES}
        runs = [home / method for home in homes if (home / method).exists() and is_finished(home / method)]
        for folder in runs:
            pair, run = world_pair(int(folder.parent.name.removeprefix("world-"))), load(folder, device="cpu")
            for name, scene in SCENES.items():
                (true,) = judged(network, [render(scene(pair)).image])
                prompt = PROMPTS[name].format(*run.info.words)
                images = [item.image for item in run.generate(prompt, number=options.number)]
                for seen in judged(network, images):
                    errors = concept(seen, true, pair) if name != "component alone" else {}
                    errors |= component(seen, true, pair) if name != "concept alone" else {}
                    for key, value in errors.items():
                        found[name][key].append(value)
        means = {name: {k: round(float(np.mean(v)), 2) for k, v in errors.items()} for name, errors in found.items()}
        print(json.dumps({"method": method, "pairs": len(runs), **means}, indent=1), flush=True)


if __name__ == "__main__":
    main()
