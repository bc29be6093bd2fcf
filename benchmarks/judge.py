"""Does the world's judge see in generated pictures what an eye sees?

    python benchmarks/judge.py base                                  # the base's 92 pictures, against weights/answers.json
    python benchmarks/judge.py draw BENCH --output DIR --number 48   # pictures of a bench, shuffled, for an eye
    python benchmarks/judge.py bench DIR                             # against DIR/answers.json, when it is filled in

`draw` writes numbered sheets, `binding.py`'s charts of true renders, `files.json` (for the score, not for the eye) and `answers.json` to fill in with
the charts' words: for each picture its category (empty: none to be made out), context (plain: a wall), treatment (none, or one of the chart's) and under
`components` every kind that is seen, with its style. Prints the share of pictures where the judge agrees.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from binding import CHECKS, charts
from diffusers import StableDiffusionPipeline
from PIL import Image

from magictailor.files import write_json
from magictailor.pictures import grid, save_png
from magictailor.world.embedded import WEIGHTS
from magictailor.world.judge import load_judge
from magictailor.world.judgement import Judgement, judged
from magictailor.world.render import render
from magictailor.world.scene import STYLES, TREATMENTS, Component, Concept, Scene, Surface
from magictailor.world.training.run import pictures_of

Answer = dict[str, Any]
GRAY = Surface("gray", (150, 150, 150), "plain", (0, 0, 0))


def agreement(answers: list[Answer], told: list[Judgement]) -> dict[str, str]:
    """Shares of what the eye named that the judge named alike, and of components that only the judge saw."""
    right: dict[str, list[bool]] = {}
    for answer, judgement in zip(answers, told, strict=True):
        if answer.get("category"):
            right.setdefault("category", []).append(judgement.category == answer["category"])
        if answer.get("context"):
            right.setdefault("context", []).append(judgement.place == answer["context"])
        if answer.get("treatment"):
            right.setdefault("treatment", []).append(judgement.filter == answer["treatment"])
        for kind, seen in answer["components"].items():
            found = judgement.things.get(kind)
            right.setdefault("component found", []).append(found is not None)
            if found is not None and seen.get("style"):
                right.setdefault("style", []).append(found.name == f"{seen['style']} {kind}")
        kinds = [kind for kind in judgement.things if kind in STYLES]
        right.setdefault("component not imagined", []).extend(kind in answer["components"] for kind in kinds)
    return {name: f"{np.mean(values):.3f} of {len(values)}" for name, values in right.items()}


def base() -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    answers = json.loads((WEIGHTS / "answers.json").read_text("utf-8"))
    for name, checks in CHECKS.items():
        print(name, agreement(answers[name], judged(load_judge(), pictures_of(pipeline, checks))))


def treatment_chart(folder: Path) -> None:
    tower = Concept("tower", GRAY, (1, 1, 1), (0, 0, 0), (Component("roof", "pointed", GRAY, 1.0),))
    images = [Image.fromarray(render(Scene((tower,), treatment=t)).image) for t in (None, *TREATMENTS)]
    save_png(grid([images], column_titles=["none", *TREATMENTS]), folder / "chart-treatments.png")


def draw(bench: Path, folder: Path, number: int) -> None:
    files = sorted((bench / "images").rglob("*.png"))
    chosen = [files[i] for i in np.random.default_rng(0).permutation(len(files))[:number]]
    charts(folder)
    treatment_chart(folder)
    for first in range(0, len(chosen), 8):
        part = [Image.open(path).convert("RGB") for path in chosen[first : first + 8]]
        titles = [f"{i} / {i + 4}" for i in range(first, first + 4)]
        save_png(grid([part[:4], part[4:]], column_titles=titles, cell=256), folder / f"pictures-{first:02d}.png")
    write_json(folder / "files.json", [str(path.resolve()) for path in chosen])
    write_json(
        folder / "answers.json",
        [{"number": i, "category": "", "context": "", "treatment": "", "components": {}} for i in range(len(chosen))],
    )


def against_answers(folder: Path) -> None:
    images = [Image.open(path).convert("RGB") for path in json.loads((folder / "files.json").read_text("utf-8"))]
    answers = json.loads((folder / "answers.json").read_text("utf-8"))
    print(agreement(answers, judged(load_judge(), images)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("base")
    drawing = verbs.add_parser("draw")
    drawing.add_argument("bench", type=Path)
    drawing.add_argument("--output", type=Path, required=True)
    drawing.add_argument("--number", type=int, default=48)
    verbs.add_parser("bench").add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.verb == "base":
        base()
    elif options.verb == "draw":
        draw(options.bench, options.output, options.number)
    else:
        against_answers(options.folder)


if __name__ == "__main__":
    main()
