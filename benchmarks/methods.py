"""The six methods on pairs of the world: the search of a rate for each, and the comparison.

    python benchmarks/methods.py --output search --first 120 --pairs 2 --factors 1 3 10 30      # the search, on other pairs
    python benchmarks/methods.py --output compared --pairs 4                                     # published and searched

Each method has its published rates times a factor; steps are its published ones, as many of them as MagicTailor has of its
own 500 on the embedded base; prior pictures are 50 of a label. A cell is judged as in `techniques.py`: the share of eight composites that are nearest to the
truth by colour; beside it the mean distance to the truth. Every cell is a process of its own, so that its peak is its own, and is
kept; the same command goes on where it stopped. Two cores are used best by two commands with OMP_NUM_THREADS=1,
`--part 0 2` and `--part 1 2`; a last one without `--part` prints and draws all.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

IMAGES, SHOWN = 8, 2
PRIORS = 50  # of a label, not 200: drawing them would take longer than the training
FIRST = 100_000_000
METHODS = ("textual-inversion", "dreambooth", "custom-diffusion", "break-a-scene", "clic", "magictailor")
SEARCHED = "searched"  # the factor that is kept beside the base, and for MagicTailor its defaults there


def run(folder: Path, seed: int, seeds: list[int], method: str, factor: str) -> None:
    """One cell: train, draw, judge."""
    import numpy as np
    from PIL import Image

    from magictailor import generate, load, personalize
    from magictailor.backbones import load_backbone
    from magictailor.backbones.load import EMBEDDED, PAPER
    from magictailor.errors import RunError
    from magictailor.files import write_json
    from magictailor.methods import METHODS as MADE
    from magictailor.pictures import save_png
    from magictailor.training.checkpoint import stored_bytes
    from magictailor.world.pairs import composite_scene, world_pair
    from magictailor.world.render import render
    from magictailor.world.truth import alternatives, cielab, nearest_alternative

    backbone, pair = load_backbone(), world_pair(seed)
    base = EMBEDDED
    if factor != SEARCHED:
        base = replace(EMBEDDED, lr=PAPER.lr, rank=PAPER.rank, word_rate=1.0, rate_factors={method: float(factor)})
    recipe = MADE[method](base).model_copy(update={"preview_every": 0})
    if factor != SEARCHED:
        recipe = recipe.model_copy(update={"rate_factor": float(factor)})
    if recipe.prior is not None:
        recipe = recipe.model_copy(update={"prior": recipe.prior.model_copy(update={"images": PRIORS})})
    started = time.monotonic()
    try:
        personalize(folder.parent / "pair", folder / "run", model=backbone, recipe=recipe)
    except RunError:  # at such rates a loss may become infinite
        write_json(folder / "result.json", {"diverged": True})
        return
    wall = time.monotonic() - started
    said = json.loads((folder / "run" / "run.json").read_text())
    prompt = f"a photo of {pair.words[0]} with {pair.words[1]}"
    pictures = list(generate(folder / "run", prompt, number=IMAGES, pipeline=load(folder / "run")))
    for item in pictures:
        save_png(item.image, folder / f"{item.record.seed}.png", item.record.metadata())
    choices = alternatives(pair, [world_pair(s) for s in seeds if s != seed])
    nearest = [nearest_alternative(item.image, choices) for item in pictures]
    labs = [cielab(np.asarray(item.image.convert("RGB"))) for item in pictures]
    distance = float(np.mean([min(t.distance(lab) for t in choices["composite"]) for lab in labs]))
    truth = render(composite_scene(pair)).image
    save_png(Image.fromarray(truth), folder / "truth.png")
    cost = {"steps": recipe.steps, "seconds": said["seconds"], "wall": round(wall, 1), "peak_gb": said["peak_gb"]}
    share = nearest.count("composite") / len(nearest)
    result = {"nearest": nearest, "share": share, "distance": distance, "stored": stored_bytes(folder / "run"), **cost}
    (folder / "run" / "checkpoint.safetensors").unlink()  # up to 140 MB, and of no more use
    write_json(folder / "result.json", result)


def cell(folder: Path, seed: int, seeds: list[int], method: str, factor: str) -> dict[str, float]:
    if not (folder / "result.json").exists():
        command = [
            sys.executable,
            __file__,
            "--cell",
            str(folder),
            str(seed),
            ",".join(map(str, seeds)),
            method,
            factor,
        ]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return dict(json.loads((folder / "result.json").read_text()))


def draw(output: Path, names: list[str], seeds: list[int], columns: list[tuple[str, str]]) -> None:
    """Pairs in rows, methods in columns, two pictures each."""
    from PIL import Image

    from magictailor.pictures import grid, save_png

    rows = []
    for seed in seeds:
        folders = [output / str(seed) / f"{method}-{factor}" for method, factor in columns]
        rows.append([Image.open(folders[0] / "truth.png"), *(Image.open(f / f"{i}.png") for f in folders for i in range(SHOWN))])  # fmt: skip
    titles = ["truth", *(t for method, factor in columns for t in (f"{method} x {factor}", ""))]
    save_png(grid(rows, names, titles, cell=96), output / "sheet.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--first", type=int, default=0, help="the first pair's k")
    parser.add_argument("--factors", nargs="+", default=["1", SEARCHED])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), help="this one, of how many")
    parser.add_argument("--cell", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        folder, seed, seeds, method, factor = options.cell
        run(Path(folder), int(seed), [int(s) for s in seeds.split(",")], method, factor)
        return
    from magictailor.world.pairs import world_pair, write_pair

    seeds = [FIRST + options.first + k for k in range(options.pairs)]
    columns = [(method, factor) for method in options.methods for factor in options.factors]
    cells = [(seed, *column) for column in columns for seed in seeds]
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for seed, method, factor in cells[options.part[0] :: options.part[1]]:
        if not (options.output / str(seed) / "pair").exists():
            write_pair(world_pair(seed), options.output / str(seed) / "pair")
        result = cell(options.output / str(seed) / f"{method}-{factor}", seed, seeds, method, factor)
        found.setdefault((method, factor), []).append(result)
        print(seed, method, factor, {k: v for k, v in result.items() if k != "nearest"}, flush=True)
    if options.part[1] > 1:
        return
    draw(options.output, [" ".join(world_pair(s).words) for s in seeds], seeds, columns)
    for column in [c for c, results in found.items() if any("diverged" in r for r in results)]:
        print(
            f"{column[0]} x {column[1]}: a loss became infinite on {sum('diverged' in r for r in found.pop(column))} pairs"
        )
    print(f"{'method':18} {'factor':>8}  share  distance  steps  seconds  wall  GB    stored  by pair")
    for (method, factor), results in found.items():
        mean = {k: sum(r[k] for r in results) / len(results) for k in ("share", "distance", "steps", "seconds", "wall", "peak_gb", "stored")}  # fmt: skip
        by_pair = " ".join(f"{r['share']:.2f}" for r in results)
        print(
            f"{method:18} {factor:>8}  {mean['share']:.2f}  {mean['distance']:8.1f}  {mean['steps']:5.0f}  {mean['seconds']:7.1f}"
            f"  {mean['wall']:4.0f}  {mean['peak_gb']:.2f}  {mean['stored']:8.0f}  {by_pair}"
        )


if __name__ == "__main__":
    main()
