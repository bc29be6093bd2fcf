"""Does the world's judge see in generated pictures what an eye sees?

    python benchmarks/judge.py base                                  # the base's 92 pictures, against weights/answers.json
    python benchmarks/judge.py draw --output DIR [--bench FOLDER] [--number 48]   # more, shuffled, for an eye: of the base, or of a bench
    python benchmarks/judge.py score DIR                             # against DIR/answers.json, when it is filled in

`draw` writes numbered pictures and sheets of them, `binding.py`'s charts of true renders, and `answers.json` to fill in with
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
from magictailor.world.captions import full_caption
from magictailor.world.checks import FIRST_SEED, BindingCheck
from magictailor.world.embedded import WEIGHTS
from magictailor.world.judge import load_judge
from magictailor.world.judgement import Judgement, judged
from magictailor.world.render import render
from magictailor.world.scene import STYLES, TREATMENTS, Component, Concept, Scene, Surface, random_scene
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


def base_pipeline() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def base() -> None:
    pipeline = base_pipeline()
    answers = json.loads((WEIGHTS / "answers.json").read_text("utf-8"))
    for name, checks in CHECKS.items():
        print(name, agreement(answers[name], judged(load_judge(), pictures_of(pipeline, checks))))


def treatment_chart(folder: Path) -> None:
    tower = Concept("tower", GRAY, (1, 1, 1), (0, 0, 0), (Component("roof", "pointed", GRAY, 1.0),))
    images = [Image.fromarray(render(Scene((tower,), treatment=t)).image) for t in (None, *TREATMENTS)]
    save_png(grid([images], column_titles=["none", *TREATMENTS]), folder / "chart-treatments.png")


def of_the_base(number: int) -> list[Image.Image]:
    """By captions of scenes that nobody trains on: single things, all places, filters and views."""
    seeds = iter(range(FIRST_SEED + 40_000, FIRST_SEED + 50_000))
    checks: list[BindingCheck] = []
    while len(checks) < number:
        scene = random_scene(next(seeds))
        if len(scene.things) == 1:
            checks.append(BindingCheck(full_caption(scene), scene))
    return pictures_of(base_pipeline(), checks)


def draw(bench: Path | None, folder: Path, number: int) -> None:
    if bench is None:
        images = of_the_base(number)
    else:
        files = sorted((bench / "images").rglob("*.png"))
        chosen = [files[i] for i in np.random.default_rng(0).permutation(len(files))[:number]]
        images = [Image.open(path).convert("RGB") for path in chosen]
    charts(folder)
    treatment_chart(folder)
    for i, image in enumerate(images):
        save_png(image, folder / "pictures" / f"{i:03d}.png")
    for first in range(0, len(images), 8):
        part = images[first : first + 8]
        titles = [f"{i} / {i + 4}" for i in range(first, first + 4)]
        save_png(grid([part[:4], part[4:]], column_titles=titles, cell=256), folder / f"sheet-{first:03d}.png")
    empty = {"category": "", "context": "", "treatment": "", "components": {}}
    write_json(folder / "answers.json", [{"number": i, **empty} for i in range(len(images))])


def against_answers(folder: Path) -> None:
    images = [Image.open(path).convert("RGB") for path in sorted((folder / "pictures").glob("*.png"))]
    answers = json.loads((folder / "answers.json").read_text("utf-8"))
    print(agreement(answers, judged(load_judge(), images)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("base")
    drawing = verbs.add_parser("draw")
    drawing.add_argument("--bench", type=Path)
    drawing.add_argument("--output", type=Path, required=True)
    drawing.add_argument("--number", type=int, default=48)
    verbs.add_parser("score").add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.verb == "base":
        base()
    elif options.verb == "draw":
        draw(options.bench, options.output, options.number)
    else:
        against_answers(options.folder)


if __name__ == "__main__":
    main()
