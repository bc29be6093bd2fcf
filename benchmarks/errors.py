"""What the errors of a bench are made of: colour, shape and pattern of both things, by the judge, from the bench's pictures and runs.

    python benchmarks/errors.py FOLDER magictailor mask-out no-warm-up --output errors.json

Of pairs of the drawn world, over the pictures that show the thing. Prints means over pairs; the file has each pair's. `concept lighter`: its lightness above
the truth's, `concept distance`: of its colour, both CIELAB; the other colours' errors 0 .. 1. Of the run's last 60 steps: the loss of each side, the
regulariser without its weight, and how often the concept was the worse side.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from magictailor.evaluate.metrics.asked import Asked, asked
from magictailor.evaluate.metrics.identity import color_error
from magictailor.evaluate.metrics.judging import judge_network
from magictailor.evaluate.records import read_unit
from magictailor.files import write_json
from magictailor.generation.pictures import picture_name
from magictailor.world.judgement import Judgement, judged
from magictailor.world.pairs import WorldPair, world_pair
from magictailor.world.render import render

LAST = 60
Parts = dict[str, float]


def parts(pair: WorldPair, seen: Judgement, true: Judgement) -> Parts:
    """Of one picture."""
    found: Parts = {}
    for side, label in zip(("concept", "component"), pair.labels, strict=True):
        thing, truth = seen.things.get(label), true.things.get(label)
        if thing is None or truth is None:
            continue
        shape = seen.category == true.category if side == "concept" else thing.name == truth.name
        found[f"{side} color"] = color_error(thing, truth)
        found[f"{side} shape"] = float(shape)
        found[f"{side} pattern"] = float(thing.pattern == truth.pattern)
        if side == "concept" and "color" in thing.colors and "color" in truth.colors:
            found["concept lighter"] = float(thing.colors["color"][0] - truth.colors["color"][0])
            found["concept distance"] = float(np.linalg.norm(thing.colors["color"] - truth.colors["color"]))
    return found


def of_run(path: Path) -> Parts:
    """From a run's metrics."""
    steps = [json.loads(line) for line in path.read_text("utf-8").splitlines()][-LAST:]
    values = {
        name: [step[name] for step in steps if name in step] for name in ("diffusion.0", "diffusion.1", "preserve")
    }
    values["concept worse"] = [float(step["worst"] == 0) for step in steps if "worst" in step]
    return {name: float(np.mean(found)) for name, found in values.items() if found}


def of_unit(home: Path, name: str, method: str, truths: dict[tuple[str, Asked], Judgement]) -> Parts:
    """Means over a unit's pictures."""
    _, seed, *difficulty = name.split("-")
    pair = world_pair(int(seed), *difficulty)
    rows, _ = read_unit(home / "results" / name / f"{method}.parquet")
    keys = sorted({(row.prompt, row.seed) for row in rows if row.prompt})
    images = [Image.open(home / "images" / name / method / picture_name(*key)).convert("RGB") for key in keys]
    every: dict[str, list[float]] = {}
    for (prompt, _), seen in zip(keys, judged(judge_network(), images), strict=True):
        what = asked(prompt, [word for word in prompt.replace(",", "").split() if word.startswith("<")])
        if what is None:
            continue
        if (name, what) not in truths:
            (truths[name, what],) = judged(judge_network(), [render(what.scene(pair, pair.composite)).image])
        for part, value in parts(pair, seen, truths[name, what]).items():
            every.setdefault(part, []).append(value)
    return {part: float(np.mean(values)) for part, values in every.items()} | of_run(
        home / "runs" / name / method / "metrics.jsonl"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    truths: dict[tuple[str, Asked], Judgement] = {}
    found: dict[str, dict[str, Parts]] = {}
    for method in given.methods:
        pairs = sorted(path.parent.name for path in (given.folder / "results").glob(f"*/{method}.parquet"))
        units = found[method] = {pair: of_unit(given.folder, pair, method, truths) for pair in pairs}
        names = dict.fromkeys(name for unit in units.values() for name in unit)
        means = {name: np.mean([unit[name] for unit in units.values() if name in unit]) for name in names}
        print(f"{method}, {len(pairs)} pairs: " + ", ".join(f"{name} {mean:.3f}" for name, mean in means.items()))
    write_json(given.output, found)


if __name__ == "__main__":
    main()
