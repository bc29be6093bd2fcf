"""Does the base generate what a caption says? Pictures for an eye that does not know the captions, and its score.

    python benchmarks/binding.py draw --output DIR [--base FOLDER]
    python benchmarks/binding.py score DIR/answers.json

`draw` generates the pictures of the binding checks and of each component's words alone, shuffled. DIR then holds
`pictures/`, numbered sheets of them, charts of true renders that show what the words mean, and `answers.json` to fill in
with these words. Of a binding picture, `body` is the colour of the body (of persons, kids, figures and heroes the skin's
word), and `components` names every kind that is seen: `{"hair": {"word": "curly", "color": "red"}, ...}`. Of a component
whose colour the art fixes, the colour is not scored. An empty answer counts as wrong.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from magictailor.backbones import load_backbone
from magictailor.backbones.sampling import sample
from magictailor.common.files import write_json
from magictailor.common.pictures import grid, save_png
from magictailor.generation.protocol import CONTEXTS
from magictailor.world.catalog import CATALOG, PALETTE, SKINS
from magictailor.world.checks import BindingCheck, binding_checks, component_checks
from magictailor.world.render import SIZE, render
from magictailor.world.scene import Color, Component, Concept, Scene, random_concept

Answer = dict[str, Any]
CHECKS = {"binding": binding_checks(), "component": component_checks()}
for checks in CHECKS.values():  # they take categories and words in turn: nothing must be guessed from the order
    np.random.default_rng(0).shuffle(checks)
EMPTY: dict[str, Answer] = {
    "binding": {"category": "", "body": "", "context": "", "components": {}},
    "component": {"kind": "", "word": "", "color": ""},
}


def picture(scene: Scene) -> Image.Image:
    return Image.fromarray(render(scene).image)


def sheet(columns: Sequence[Sequence[Image.Image]], titles: Sequence[str], across: int, cell: int) -> Image.Image:
    """Columns of pictures, each with its title, ``across`` of them side by side, then the next ones below."""
    cut = [slice(start, start + across) for start in range(0, len(columns), across)]
    strips = [grid(list(zip(*columns[part])), column_titles=titles[part], cell=cell) for part in cut]
    whole = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    for i, strip in enumerate(strips):
        whole.paste(strip, (0, sum(s.height for s in strips[:i])))
    return whole


def bare(category: str, color: str) -> Concept:
    """A concept in this colour that wears nothing."""
    concept = random_concept(np.random.default_rng(0), category)
    return replace(concept, color=Color(color, (SKINS if concept.spec.skin else PALETTE)[color]), components=())


def category_chart(name: str) -> Image.Image:
    """Every trained variant of every kind of a category under its word: worn, and below it alone."""
    concept = bare(name, "tan" if CATALOG[name].skin else "yellow")
    columns, titles = [], []
    for kind in CATALOG[name].kinds:
        for variant in kind.trained:
            part = Component(name, kind.name, variant, Color("blue", PALETTE["blue"]) if kind.color else None)
            columns.append([picture(Scene((subject,))) for subject in (concept.wearing(part), part)])
            titles.append(f"{kind.name}: {part.word}")
    return sheet(columns, titles, 10, SIZE)


def context_chart() -> Image.Image:
    names = ["plain", *CONTEXTS]
    columns = [[picture(Scene((), c)), picture(Scene((bare("robot", "white"),), c, noise=1))] for c in names]
    return sheet(columns, names, 6, SIZE)


def color_chart() -> Image.Image:
    """Each colour on a body and on hair, and each skin on those that have one."""
    hair = {c: Component("figure", "hair", "bob", Color(c, rgb)) for c, rgb in PALETTE.items()}
    subjects = [(bare("monster", c), bare("figure", "tan").wearing(hair[c])) for c in PALETTE]
    subjects += [(bare(a, s), bare(b, s)) for a, b in (("person", "kid"), ("figure", "hero")) for s in SKINS]
    columns = [[picture(Scene((s,))) for s in pair] for pair in subjects]
    return sheet(columns, [*PALETTE, *(f"skin: {s}" for s in (*SKINS, *SKINS))], 10, SIZE)


def draw(base: str, folder: Path) -> None:
    charts = {"contexts": context_chart(), "colors": color_chart(), **{c: category_chart(c) for c in CATALOG}}
    for name, chart in charts.items():
        save_png(chart, folder / f"chart-{name}.png")
    answers = {n: [{"number": i, **EMPTY[n]} for i in range(len(c))] for n, c in CHECKS.items()}
    write_json(folder / "answers.json", answers)
    pipeline = load_backbone(base, precision="fp32").pipeline
    for name, checks in CHECKS.items():
        images = list(sample(pipeline, [c.caption for c in checks], range(len(checks)), 30, 4.0, SIZE))
        for i, image in enumerate(images):
            save_png(image, folder / "pictures" / f"{name}-{i:03d}.png")
        for first in range(0, len(images), 8):
            numbers = range(first, min(first + 8, len(images)))
            numbered = sheet([[images[i]] for i in numbers], list(map(str, numbers)), 4, 256)
            save_png(numbered, folder / f"{name}-{first:03d}.png")


def agreed(answer: Answer, check: BindingCheck) -> dict[str, bool]:
    """Which fields of an answer agree with the caption."""
    part = check.component
    if "components" not in answer:
        asked = {"kind": part.kind, "word": part.word, "color": part.color and part.color.name}
        return {field: answer[field] == value for field, value in asked.items() if value is not None}
    concept, seen = check.concept, answer["components"]
    named = {"body": answer["body"], **{kind: c.get("color") for kind, c in seen.items()}}
    true = {"body": concept.color.name, **{c.kind: c.color.name for c in concept.components if c.color is not None}}
    return {
        "category": answer["category"] == concept.category,
        "context": answer["context"] == check.scene.context,
        "kind": part.kind in seen,
        "word": seen.get(part.kind, {}).get("word") == part.word,
        "both colors": all(named.get(key) == true[key] for key in (part.kind, check.second)),
    }


def shares(rows: Sequence[dict[str, bool]]) -> dict[str, str]:
    """By field, the share of the answers that have it in which it is right."""
    columns = {field: [row[field] for row in rows if field in row] for row in rows for field in row}
    return {field: f"{np.mean(values):.3f} of {len(values)}" for field, values in columns.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    drawing = verbs.add_parser("draw")
    drawing.add_argument("--output", type=Path, required=True)
    drawing.add_argument("--base", default="embedded", help="a folder in diffusers format")
    verbs.add_parser("score").add_argument("answers", type=Path)
    options = parser.parse_args()
    if options.verb == "draw":
        return draw(options.base, options.output)
    answers = json.loads(options.answers.read_text("utf-8"))
    for name, checks in CHECKS.items():
        print(name, shares([agreed(a, c) for a, c in zip(answers[name], checks, strict=True)]))


if __name__ == "__main__":
    main()
