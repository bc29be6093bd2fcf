"""Does the base bind attributes as captions ask? Images for a human who does not know the captions, and the score.

    python benchmarks/binding.py draw --output DIR [--base FOLDER]
    python benchmarks/binding.py score DIR/answers.json

`draw` generates the images of the binding checks and of each component's words alone, shuffled. DIR then holds
`pictures/`, numbered sheets of them, charts of renders that explain the words, and `answers.json` to fill in with these
words. For a binding image, `body` is the colour of the body (for persons, kids, figures and heroes the word for the skin),
and `components` has every visible kind: `{"hair": {"word": "curly", "color": "red"}, ...}`. The colour of a component is
not scored if the art fixes it. An empty answer counts as wrong.
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
from magictailor.backbones.sampling import SamplingOptions, sample
from magictailor.common.files import write_json
from magictailor.common.pictures import grid, save_png
from magictailor.generation.protocol import CONTEXTS
from magictailor.world.catalog import CATALOG, PALETTE, SKINS
from magictailor.world.checks import BindingCheck, binding_checks, component_checks
from magictailor.world.render import SIZE, render
from magictailor.world.scene import Color, Component, Concept, Scene, random_concept

Answer = dict[str, Any]
CHECKS = {"binding": binding_checks(), "component": component_checks()}
for checks in CHECKS.values():  # their order would reveal categories and words
    np.random.default_rng(0).shuffle(checks)
EMPTY: dict[str, Answer] = {
    "binding": {"category": "", "body": "", "context": "", "components": {}},
    "component": {"kind": "", "word": "", "color": ""},
}


def rendered(scene: Scene) -> Image.Image:
    return Image.fromarray(render(scene).image)


def sheet(columns: Sequence[Sequence[Image.Image]], titles: Sequence[str], across: int, cell: int) -> Image.Image:
    """Columns of images with titles, ``across`` of them next to each other, then the next ones below."""
    cut = [slice(start, start + across) for start in range(0, len(columns), across)]
    strips = [grid(list(zip(*columns[part])), column_titles=titles[part], cell=cell) for part in cut]
    whole = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    for i, strip in enumerate(strips):
        whole.paste(strip, (0, sum(s.height for s in strips[:i])))
    return whole


def bare(category: str, color: str) -> Concept:
    """A concept in this colour without components."""
    concept = random_concept(np.random.default_rng(0), category)
    return replace(concept, color=Color(color, (SKINS if concept.spec.skin else PALETTE)[color]), components=())


def category_chart(name: str) -> Image.Image:
    """Every trained variant of every kind of a category under its word: on a concept, and below it alone."""
    concept = bare(name, "tan" if CATALOG[name].skin else "yellow")
    columns, titles = [], []
    for kind in CATALOG[name].kinds:
        for variant in kind.trained:
            component = Component(name, kind.name, variant, Color("blue", PALETTE["blue"]) if kind.color else None)
            columns.append([rendered(Scene((subject,))) for subject in (concept.wearing(component), component)])
            titles.append(f"{kind.name}: {component.word}")
    return sheet(columns, titles, 10, SIZE)


def context_chart() -> Image.Image:
    names = ["plain", *CONTEXTS]
    columns = [[rendered(Scene((), c)), rendered(Scene((bare("robot", "white"),), c, noise=1))] for c in names]
    return sheet(columns, names, 6, SIZE)


def color_chart() -> Image.Image:
    """Each colour on a body and on hair, and each skin on the categories with skin."""
    hair = {c: Component("figure", "hair", "bob", Color(c, rgb)) for c, rgb in PALETTE.items()}
    subjects = [(bare("monster", c), bare("figure", "tan").wearing(hair[c])) for c in PALETTE]
    subjects += [(bare(a, s), bare(b, s)) for a, b in (("person", "kid"), ("figure", "hero")) for s in SKINS]
    columns = [[rendered(Scene((s,))) for s in pair] for pair in subjects]
    return sheet(columns, [*PALETTE, *(f"skin: {s}" for s in (*SKINS, *SKINS))], 10, SIZE)


def generate(base: str, folder: Path) -> None:
    charts = {"contexts": context_chart(), "colors": color_chart(), **{c: category_chart(c) for c in CATALOG}}
    for name, chart in charts.items():
        save_png(chart, folder / f"chart-{name}.png")
    answers = {n: [{"number": i, **EMPTY[n]} for i in range(len(c))] for n, c in CHECKS.items()}
    write_json(folder / "answers.json", answers)
    backbone = load_backbone(base, precision="fp32")
    for name, checks in CHECKS.items():
        images = list(sample(backbone, [c.caption for c in checks], range(len(checks)), SamplingOptions(30, 4.0)))
        for i, image in enumerate(images):
            save_png(image, folder / "pictures" / f"{name}-{i:03d}.png")
        for first in range(0, len(images), 8):
            numbers = range(first, min(first + 8, len(images)))
            numbered = sheet([[images[i]] for i in numbers], list(map(str, numbers)), 4, 256)
            save_png(numbered, folder / f"{name}-{first:03d}.png")


def agreement(answer: Answer, check: BindingCheck) -> dict[str, bool]:
    """Whether each field of an answer agrees with the caption."""
    component = check.component
    if "components" not in answer:
        true = {"kind": component.kind, "word": component.word, "color": component.color and component.color.name}
        return {field: answer[field] == value for field, value in true.items() if value is not None}
    concept, seen = check.concept, answer["components"]
    named = {"body": answer["body"], **{kind: c.get("color") for kind, c in seen.items()}}
    colors = {"body": concept.color.name, **{c.kind: c.color.name for c in concept.components if c.color is not None}}
    return {
        "category": answer["category"] == concept.category,
        "context": answer["context"] == check.scene.context,
        "kind": component.kind in seen,
        "word": seen.get(component.kind, {}).get("word") == component.word,
        "both colors": all(named.get(key) == colors[key] for key in (component.kind, check.second)),
    }


def fractions(rows: Sequence[dict[str, bool]]) -> dict[str, str]:
    """The fraction of right answers by field."""
    columns = {field: [row[field] for row in rows if field in row] for row in rows for field in row}
    return {field: f"{np.mean(values):.3f} of {len(values)}" for field, values in columns.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    generation = verbs.add_parser("draw")
    generation.add_argument("--output", type=Path, required=True)
    generation.add_argument("--base", default="embedded", help="a folder in diffusers format")
    verbs.add_parser("score").add_argument("answers", type=Path)
    options = parser.parse_args()
    if options.verb == "draw":
        return generate(options.base, options.output)
    answers = json.loads(options.answers.read_text("utf-8"))
    for name, checks in CHECKS.items():
        print(name, fractions([agreement(a, c) for a, c in zip(answers[name], checks, strict=True)]))


if __name__ == "__main__":
    main()
