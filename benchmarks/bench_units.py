"""What units of a bench take on the embedded base: seconds of one core, for `magictailor bench run --dry-run`.

    OMP_NUM_THREADS=1 python benchmarks/bench_units.py --output DIR --steps 12

Of each method a few steps are trained and its seconds a step multiplied by its number of steps. Time is the processor's, so
other work on the machine hardly counts. Writes `src/magictailor/evaluate/unit_seconds.json` with `--save`.
"""

import argparse
import json
import platform
import time
from itertools import pairwise
from pathlib import Path

import torch

from magictailor import load, personalize, recipe_for
from magictailor.common.events import Event, Progress
from magictailor.data import read_pair
from magictailor.evaluate.forecast import MEASURED
from magictailor.evaluate.metrics import load_scorers, make_scorers
from magictailor.evaluate.metrics.scorer import ScoredImage, Target
from magictailor.generation.protocol import PROMPTS
from magictailor.methods import COMPARED, METHODS
from magictailor.world.pairs import world_pair, write_pair

PAIR_SEED = 2_000_000_000


def seconds_a_step(method: str, steps: int, pair: Path, folder: Path) -> list[float]:
    """Of each phase."""
    recipe = recipe_for("embedded", method)
    short = [f"phases.{n}.steps={steps}" for n in range(len(recipe.phases))] + ["sampling.preview_every=0"]
    short += ["loss.prior.images=2"] if recipe.loss.prior else []
    times: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, Progress) and event.task == "training":
            times.append(time.process_time())

    personalize(pair, folder, method=method, settings=short, listen=listen)
    gaps = [b - a for a, b in pairwise(times)]
    parts = [sorted(gaps[n * steps : (n + 1) * steps - 1]) for n in range(len(recipe.phases))]
    return [part[len(part) // 2] for part in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--methods", nargs="+", default=[*COMPARED, "plain-lora"], choices=METHODS)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pair = options.output / "pair"
    world = world_pair(PAIR_SEED)
    if not pair.exists():
        write_pair(world, pair)
    trainings = {}
    for method in options.methods:
        each = seconds_a_step(method, options.steps, pair, options.output / method)
        phases = recipe_for("embedded", method).phases
        trainings[method] = round(sum(s * p.steps for s, p in zip(each, phases, strict=True)), 1)
        print(
            f"{method}: {', '.join(f'{s:.3f}' for s in each)} s a step, {trainings[method]:.0f} s a training",
            flush=True,
        )
    run = load(options.output / "magictailor")
    words = list(run.words)
    prompts = [f"{' with '.join(words)}, {text}" for text in list(PROMPTS.values())[:4]]
    began = time.process_time()
    images = [ScoredImage(i.record.prompt, i.record.seed, i.image) for i in run.generate(prompts, number=2)]
    image = (time.process_time() - began) / len(images)
    scorers, _ = load_scorers(make_scorers(("judge", "quality"), {}, "embedded"))
    began, target = time.process_time(), Target(read_pair(pair), words, world)
    rows = [row for scorer in scorers.values() for row in scorer.score(target, images)]
    score = (time.process_time() - began) / len(images)
    print(f"an image: {image:.2f} s; scoring one: {score:.2f} s ({len(rows)} values)")
    source = f"one core of {platform.machine()}, {time.strftime('%Y-%m-%d')}"
    if options.save:
        found = {"train": trainings, "image": round(image, 3), "score": round(score, 3), "source": source}
        MEASURED.write_text(json.dumps({"embedded": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
