"""A bench of the embedded base on a bare machine with one card, where pyarrow is missing; its scores come home as JSON lines.

    python benchmarks/card_bench.py run benchmarks/paper.toml --output DIR --workers 14 --minutes 9 --device cuda
    python benchmarks/card_bench.py merge benchmarks/paper.toml DIR/trials.jsonl --output BENCH

A training of the embedded base keeps a card busy for a small part of the time, so many processes share it. `run` does trial
after trial, each wholly in one process, in the bench's order or by method; a trial that is done is a line of ``trials.jsonl``, and the
images of the first pairs are sheets beside it. After the minutes, or an interruption, what is done is there, and the same
command goes on. `merge` writes the lines into a bench's folder, where `magictailor bench` reads them; a `bench run` does the
rest.
"""

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import astuple
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from magictailor.backbones import RuntimeOptions, load_backbone
from magictailor.common.events import ignore
from magictailor.common.pictures import grid
from magictailor.evaluate.costs import Cost, read_cost, write_cost
from magictailor.evaluate.design import fix_design
from magictailor.evaluate.metrics.scorer import Target
from magictailor.evaluate.records import Row, write_rows
from magictailor.evaluate.sources import Source, sources
from magictailor.evaluate.spec import Spec, read_spec
from magictailor.evaluate.stores import FolderStore
from magictailor.evaluate.trials import Trial, make_trials
from magictailor.evaluate.work import WORK, loaded_scorers, read_images, scored_rows

SHEETS = 12  # pairs whose images are kept, small


def whole_trial(home: Path, trial: Trial, spec: Spec, runtime: RuntimeOptions, keeps: bool) -> dict[str, Any]:
    """Train, generate and score; the trial as a line."""
    torch.set_num_threads(1)
    pair = trial.source.read(home / "pairs")
    for kind in ("train", "generate"):
        WORK[kind](home, trial, pair, spec, runtime, ignore)
    words, keys = list(pair.words), trial.keys(spec, list(pair.words))
    target = Target(pair, words, trial.source.world, home / trial.features)
    images = read_images(home, trial, keys)
    scorers = loaded_scorers(spec.model_dump_json())
    rows = [
        astuple(row) for name, scorer in scorers.items() for row in scored_rows(trial, name, scorer, target, images)
    ]
    if keeps:
        files = [Image.open(home / trial.image(*key)).convert("RGB") for key in sorted(keys)]
        sheet = home / "sheets" / f"{trial.name.replace('/', '-')}.webp"
        sheet.parent.mkdir(exist_ok=True)
        grid([files[i : i + 8] for i in range(0, len(files), 8)]).save(sheet, quality=80)
    cost = read_cost(home / trial.cost)
    assert cost is not None
    models = {name: scorer.model for name, scorer in scorers.items()}
    return {"trial": trial.name, "cost": cost.model_dump(mode="json"), "models": models, "words": words, "rows": rows}


def draw(folder: Path, source: Source) -> None:
    torch.set_num_threads(1)
    source.read(folder)


def trials_of(path: Path) -> tuple[Spec, list[Trial]]:
    spec = read_spec(path)
    return spec, list(make_trials(spec, sources(spec, path.parent)))


def lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from (json.loads(line) for line in path.read_text().splitlines())


def run(options: argparse.Namespace) -> None:
    spec, trials = trials_of(options.spec)
    ends, home, file = time.monotonic() + 60 * options.minutes, options.output, options.output / "trials.jsonl"
    home.mkdir(parents=True, exist_ok=True)
    done, runtime = {line["trial"] for line in lines(file)}, RuntimeOptions(device=options.device, precision="fp32")
    load_backbone(spec.model, device="cpu")  # what can be refused is refused before the processes start
    left = [trial for trial in trials if trial.name not in done]
    if options.methods:
        left = [trial for method in options.methods for trial in left if trial.method == method]
    shown = [name for name, _ in zip(dict.fromkeys(t.source.name for t in trials), range(SHEETS), strict=False)]
    pool, at_work = ProcessPoolExecutor(options.workers, get_context("spawn")), dict[Future[dict[str, Any]], Trial]()
    pairs = {trial.source.name: trial.source for trial in left}.values()
    for _ in pool.map(draw, [home / "pairs"] * len(pairs), pairs):  # before a trial reads them, each by one process
        pass
    while (left or at_work) and time.monotonic() < ends:
        while left and len(at_work) < options.workers:
            trial = left.pop(0)
            keeps = trial.source.name in shown
            at_work[pool.submit(whole_trial, home, trial, spec, runtime, keeps)] = trial
        for future in wait(at_work, 5, FIRST_COMPLETED)[0]:
            trial = at_work.pop(future)
            if (error := future.exception()) is not None:
                print(f"{trial.name}: {error!r}", flush=True)
                continue
            with file.open("a") as out:
                out.write(json.dumps(future.result()) + "\n")
            print(f"{trial.name}, {len(left) + len(at_work)} left", flush=True)
    for process in (pool._processes or {}).values():
        process.terminate()


def merge(options: argparse.Namespace) -> None:
    spec, trials = trials_of(options.spec)
    by_name, merged = {trial.name: trial for trial in trials}, 0
    fix_design(spec, FolderStore(options.output), options.output, len({trial.source.name for trial in trials}))
    for line in lines(options.lines):
        trial = by_name[line["trial"]]
        if (options.output / trial.results).exists():
            continue
        write_cost(options.output / trial.cost, Cost.model_validate(line["cost"]))
        rows = [Row(*values) for values in line["rows"]]
        write_rows(options.output / trial.results, rows, line["models"], line["words"])
        merged += 1
    print(f"{merged} trials merged into {options.output}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    runs = verbs.add_parser("run")
    runs.add_argument("spec", type=Path)
    runs.add_argument("--output", type=Path, required=True)
    runs.add_argument("--workers", type=int, default=2)
    runs.add_argument("--minutes", type=float, default=1e6)
    runs.add_argument("--device", default="cpu")
    runs.add_argument("--methods", nargs="*", help="these alone, one after the other")
    runs.set_defaults(verb=run)
    merges = verbs.add_parser("merge")
    merges.add_argument("spec", type=Path)
    merges.add_argument("lines", type=Path)
    merges.add_argument("--output", type=Path, required=True)
    merges.set_defaults(verb=merge)
    options = parser.parse_args()
    options.verb(options)


if __name__ == "__main__":
    main()
