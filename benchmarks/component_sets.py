"""Two, three and four samples at once: how much of each part comes over, and what a training costs.

    python benchmarks/component_sets.py --output DIR [--sets 4]

For each tuning set (a concept and three components), the concept is trained with the first component, with two, and with all
three. Each run draws all that it has learned, and the concept with the first component alone. Errors by the judge, 0 .. 1, against
the true picture. The same command goes on. Prints means over sets; writes rows.json and a sheet.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from magictailor import Pair, load, personalize, read_pair
from magictailor.common.files import write_json
from magictailor.common.pictures import grid, save_png
from magictailor.evaluate.metrics.identity import component_error, concept_error
from magictailor.evaluate.metrics.judging import judge_network
from magictailor.generation.protocol import PROMPTS
from magictailor.world.judgement import Judgement, judged
from magictailor.world.pairs import RANGES, prompted
from magictailor.world.render import render
from magictailor.world.scene import Concept, Scene
from magictailor.world.sets import MOST, WorldSet, world_set, write_set

CLAUSES = ("autumn", "snow", "beach")
SEEDS = 2
PICTURES = ("truth", "image")  # of the first prompt, kept in each run's folder for the sheet
FIRST = RANGES["tuning"] + 500


def worn(made: WorldSet, count: int) -> Concept:
    """The concept with its first ``count`` components of the set."""
    concept = made.concept
    for component in made.components[:count]:
        concept = concept.wearing(component)
    return concept


def errors(seen: Judgement, true: Judgement, made: WorldSet, count: int) -> dict[str, float]:
    """Of the concept and of each component that was asked for."""
    places = {(c.category, c.kind) for c in made.components}
    cells = [cell for cell in true.components if cell not in places]
    found = {"concept": concept_error(seen, true, made.concept.category, cells)}
    for number, component in enumerate(made.components[:count], 1):
        truth = true.components.get((component.category, component.kind))
        if truth is not None:  # else the judge does not find it in the true picture either
            found[f"component {number}"] = component_error(seen.component(component.kind), truth)
    return found


def mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {
        name: float(np.mean([row[name] for row in rows if name in row]))
        for name in sorted({k for r in rows for k in r})
    }


def measure(run_folder: Path, made: WorldSet, count: int) -> tuple[dict[str, float], list[Image.Image]]:
    """Errors of pictures that name the concept and ``count`` components; truth and first picture of the first prompt."""
    run, rows, shown = load(run_folder, device="cpu", precision="fp32"), list[dict[str, float]](), list[Image.Image]()
    for clause in CLAUSES:
        scene = prompted(Scene((worn(made, count),), noise=made.seed % 2**31), clause)
        (true,) = judged(judge_network(), [truth := render(scene).image])
        prompt = f"{made.words[0]} with {' and '.join(made.words[1 : count + 1])}, {PROMPTS[clause]}"
        images = [item.image for item in run.generate(prompt, number=SEEDS)]
        rows += [errors(seen, true, made, count) for seen in judged(judge_network(), images)]
        shown += [Image.fromarray(truth), images[0]]
    return mean(rows), shown[:2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sets", type=int, default=4)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    kept = options.output / "rows.json"
    rows: dict[str, dict[str, float]] = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    sheet: list[list[Image.Image]] = []
    for seed in range(FIRST, FIRST + options.sets):
        made, folder = world_set(seed, MOST), options.output / f"set-{seed}"
        if not folder.exists():
            write_set(made, folder)
        whole, line = read_pair(folder), list[Image.Image]()
        for count in range(1, MOST + 1):
            run = folder.with_name(f"run-{seed}-{count + 1}")
            personalize(Pair(f"{whole.name}-{count + 1}", whole.samples[: count + 1]), run)
            seconds = json.loads((run / "run.json").read_text("utf-8"))["seconds"]
            for named in sorted({1, count}):
                key = f"{seed} samples {count + 1} named {named + 1}"
                if key not in rows:
                    values, shown = measure(run, made, named)
                    rows[key] = {**values, "seconds": seconds}
                    if named == count:
                        for name, image in zip(PICTURES, shown, strict=True):
                            save_png(image, run / f"{name}.png")
                    write_json(kept, rows)
                    print(time.strftime("%H:%M"), key, {k: round(v, 3) for k, v in rows[key].items()}, flush=True)
            line += [Image.open(run / f"{name}.png") for name in PICTURES]
        sheet.append(line)
    titles = [text for count in range(2, MOST + 2) for text in ("truth", f"{count} samples")]
    save_png(grid(sheet, column_titles=titles), options.output / "sheet.png")
    for group in sorted({key.partition(" ")[2] for key in rows}):
        own = [values for key, values in rows.items() if key.partition(" ")[2] == group]
        print(
            f"{group}: " + ", ".join(f"{name} {value:.3f}" for name, value in mean(own).items()), f"({len(own)} sets)"
        )


if __name__ == "__main__":
    main()
