"""DM-Deg and DS-Bal on and off, on pairs of the world taken by a fixed rule (tuning seeds 10^8 + k).

    python benchmarks/techniques.py --output bench --pairs 6

Each run and each picture is kept; the same command goes on where it stopped. Prints, for each variant, the share
of generated composites whose colours are nearest to the true composite, and draws one sheet. Two cores are used best
by two commands with OMP_NUM_THREADS=1, `--part 0 2` and `--part 1 2`; a last one without `--part` prints and draws all.

Settings are searched on other pairs than the reported ones:

    python benchmarks/techniques.py --output search --first 100 --pairs 3 --try rank4 train.0.rank=4 phases.0.lr=2e-4
"""

import argparse
import json
from pathlib import Path

from PIL import Image

from magictailor import generate, load, personalize
from magictailor.backbones import load_backbone
from magictailor.files import write_json
from magictailor.pictures import grid, save_png
from magictailor.recipe import Recipe, Untouched
from magictailor.training.loop import recipe_for
from magictailor.world.pairs import WorldPair, composite_scene, world_pair, write_pair
from magictailor.world.render import render
from magictailor.world.truth import alternatives, nearest_alternative

FIRST = 100_000_000
IMAGES = 8


def variants(tried: list[list[str]]) -> dict[str, Recipe]:
    """The full method, without DM-Deg, without DS-Bal, without both, and plain LoRA; or, if given, what is tried."""
    base = load_backbone()
    if tried:
        return {name: recipe_for(base, "magictailor", ["preview_every=0", *settings]) for name, *settings in tried}
    full = recipe_for(base, "magictailor", ["preview_every=0"])
    plain = recipe_for(base, "plain-lora", ["preview_every=0"])

    def changed(**update: object) -> Recipe:
        return full.model_copy(update={"phases": tuple(p.model_copy(update=update) for p in full.phases)})

    balance = {"reduce": "mean", "preserve": None}
    return {
        "full": full,
        "without DM-Deg": changed(degradation=Untouched()),
        "without DS-Bal": changed(**balance),
        "without both": changed(degradation=Untouched(), **balance),
        "plain LoRA": plain,
    }


def one(folder: Path, pair: WorldPair, recipe: Recipe, others: list[WorldPair]) -> dict[str, object]:
    """Train, generate and judge one variant on one pair, unless it is done."""
    done = folder / "result.json"
    if not done.exists():
        personalize(folder.parent / "pair", folder / "run", recipe=recipe)
        prompt = f"a photo of {pair.words[0]} with {pair.words[1]}"
        pictures = list(generate(folder / "run", prompt, number=IMAGES, pipeline=load(folder / "run")))
        for item in pictures:
            save_png(item.image, folder / f"{item.record.seed}.png", item.record.metadata())
        choices = alternatives(pair, others)
        nearest = [nearest_alternative(item.image, choices) for item in pictures]
        write_json(done, {"nearest": nearest, "share": nearest.count("composite") / len(nearest)})
    return dict(json.loads(done.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--first", type=int, default=0, help="the first pair's k")
    parser.add_argument("--try", dest="tried", nargs="+", action="append", default=[], metavar="NAME key=value")
    parser.add_argument("--variants", nargs="*", help="some of them only")
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), help="this one, of how many")
    options = parser.parse_args()
    pairs = [world_pair(FIRST + options.first + k) for k in range(options.pairs)]
    recipes = {k: v for k, v in variants(options.tried).items() if not options.variants or k in options.variants}
    rows, shares = [], dict[str, list[float]]()
    for pair in pairs[options.part[0] :: options.part[1]]:
        home = options.output / str(pair.seed)
        if not (home / "pair").exists():
            write_pair(pair, home / "pair")
        others = [o for o in pairs if o.seed != pair.seed]
        row = [Image.fromarray(render(composite_scene(pair)).image)]
        for name, recipe in recipes.items():
            folder = home / name.replace(" ", "-")
            result = one(folder, pair, recipe, others)
            shares.setdefault(name, []).append(float(str(result["share"])))
            print(pair.seed, *pair.words, name, result, flush=True)
            row += [Image.open(folder / f"{i}.png") for i in range(2)]
        rows.append(row)
    titles = ["truth", *(t for name in recipes for t in (name, ""))]
    save_png(grid(rows, [" ".join(p.words) for p in pairs], titles), options.output / "sheet.png")
    for name, values in shares.items():
        print(f"{name:16} {sum(values) / len(values):.2f}  {values}")


if __name__ == "__main__":
    main()
