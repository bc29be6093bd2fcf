"""Does the base draw what a caption says? Pictures for an eye that does not know the captions, and its score.

    python benchmarks/binding.py draw --output DIR [--base FOLDER]
    python benchmarks/binding.py score ANSWERS.json

`draw` writes numbered pictures of the 48 binding checks and of each component alone, charts of true renders that
name all categories, styles and contexts, and `answers.json` to fill in with the charts' words: for each picture
its category, that one's colour and the context, and under `components` every kind of component that is seen, as
`{"roof": {"style": "pointed", "color": "red"}, ...}`. So no one has to guess which component a caption names, and
a component that the base adds unasked is no error.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from magictailor.files import write_json
from magictailor.pictures import grid, save_png
from magictailor.world.checks import BindingCheck, binding_checks, component_checks, concept_of
from magictailor.world.embedded import WEIGHTS
from magictailor.world.render import render
from magictailor.world.scene import CATEGORIES, CONTEXTS, SLOTS, STYLES, Component, Concept, Scene, Surface
from magictailor.world.training.run import pictures_of

GRAY = Surface("gray", (150, 150, 150), "plain", (0, 0, 0))
BLUE = Surface("blue", (40, 92, 214), "plain", (0, 0, 0))
SKIN = (236, 188, 150)


def shuffled(checks: list[BindingCheck]) -> list[BindingCheck]:
    """In an order that says nothing: the checks go through categories and styles in turn, and an eye would notice."""
    return [checks[i] for i in np.random.default_rng(0).permutation(len(checks))]


CHECKS = {"binding": shuffled(binding_checks()), "component": shuffled(component_checks())}
ANSWERED: dict[str, tuple[str, ...]] = {"binding": ("category", "category_color", "context"), "component": ()}
Answer = dict[str, Any]


def right(answer: Answer, check: BindingCheck) -> dict[str, bool]:
    """What of an answer agrees with the caption, by field."""
    thing = check.scene.things[0]
    agreed: dict[str, bool] = {}
    if isinstance(thing, Concept):
        agreed["category"] = answer["category"] == thing.category
        agreed["category_color"] = answer["category_color"] == thing.surface.name
        agreed["context"] = answer["context"] == check.scene.context
    part = thing if isinstance(thing, Component) else concept_of(check).components[0]
    seen = answer["components"].get(part.kind, {})
    agreed |= {"component": bool(seen), "style": seen.get("style") == part.style}
    agreed["component_color"] = seen.get("color") == part.surface.name
    if isinstance(thing, Concept):
        agreed["both_colors"] = agreed["category_color"] and agreed["component_color"]
    return agreed


def charts(folder: Path) -> None:
    """True renders: every style on its owner and alone, every context."""
    worn, alone, titles = [], [], []
    for category in CATEGORIES:
        for kind in SLOTS[category]:
            parts = [Component(kind, style, BLUE, 1.0) for style in STYLES[kind]]
            worn.append([render(Scene((Concept(category, GRAY, (1, 1, 1), SKIN, (p,)),))).image for p in parts])
            alone.append([render(Scene((p,))).image for p in parts])
            titles.append(f"{category}, {kind}: {', '.join(STYLES[kind])}")
    for name, rows in (("worn", worn), ("alone", alone)):
        save_png(grid([[Image.fromarray(i) for i in row] for row in rows], titles), folder / f"chart-{name}.png")
    places = [Image.fromarray(render(Scene((), context=c)).image) for c in CONTEXTS]
    save_png(grid([places], column_titles=list(CONTEXTS)), folder / "chart-contexts.png")


def draw(base: Path, folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    charts(folder)
    answers: dict[str, list[Answer]] = {}
    for name, checks in CHECKS.items():
        images = pictures_of(pipeline, checks)
        for first in range(0, len(images), 8):
            part = images[first : first + 8]
            titles = [str(i) for i in range(first, first + len(part))]
            rows, columns = [part[:4], part[4:]], [f"{a} / {b}" for a, b in zip(titles, titles[4:])]
            save_png(grid(rows, column_titles=columns, cell=256), folder / f"{name}-{first:02d}.png")
        answers[name] = [
            {"number": i, **dict.fromkeys(ANSWERED[name], ""), "components": {}} for i in range(len(images))
        ]
    write_json(folder / "answers.json", answers)


def score(answers: dict[str, list[Answer]]) -> dict[str, dict[str, float]]:
    """The share of right answers, by field; ``both_colors``: on the right parts."""
    shares = {}
    for name, checks in CHECKS.items():
        rows = [right(a, c) for a, c in zip(answers[name], checks, strict=True)]
        shares[name] = {field: round(sum(r[field] for r in rows) / len(rows), 3) for field in rows[0]}
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    drawing = verbs.add_parser("draw")
    drawing.add_argument("--output", type=Path, required=True)
    drawing.add_argument("--base", type=Path, default=WEIGHTS)
    scoring = verbs.add_parser("score")
    scoring.add_argument("answers", type=Path)
    options = parser.parse_args()
    if options.verb == "draw":
        draw(options.base, options.output)
    else:
        print(json.dumps(score(json.loads(options.answers.read_text())), indent=2))


if __name__ == "__main__":
    main()
