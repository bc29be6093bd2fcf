"""How far methods get from "not transferred" to the truth, on tuning pairs of the world, separately for concept and component.

    python benchmarks/shares.py --output DIR --pairs 100000060+12 --arms magictailor clic plain-lora
    python benchmarks/shares.py --output DIR --pairs 100000060+4 --arms "rank 16: magictailor train.0.rank=16"

An arm is a method; or a name, a colon, a method and settings of its recipe. Four reference arms are always added:

- `truth`: the true image through the base's autoencoder, an upper bound;
- `concept kept`: the concept with its own component, through the autoencoder: nothing transferred;
- `owner`: the component's owner, through the autoencoder: nothing of the concept;
- `base`: the base with the full caption and without training: what words can describe.

The judge's errors of concept and component are averaged over images. A share is (error of not transferred - error) /
(error of not transferred - error of the truth). "Not transferred" is `concept kept` for the component and `owner` for the
concept. Results are kept per pair and arm, so the same command goes on after an interruption. On two cores, run two
processes with OMP_NUM_THREADS=1, one with `--part 0 2` and one with `--part 1 2`, then run once more without `--part`.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from magictailor import personalize, recipe_for
from magictailor.backbones import load_backbone
from magictailor.backbones.sampling import SamplingOptions, sample
from magictailor.common.files import write_json
from magictailor.common.pictures import grid, save_png
from magictailor.evaluate.metrics.judging import judge_network, metric_values, read_truths
from magictailor.evaluate.metrics.request import parse_prompt
from magictailor.generation.protocol import PROMPTS
from magictailor.recipe import with_settings
from magictailor.training.checkpoint import STATE_FILE
from magictailor.world.captions import full_caption
from magictailor.world.embedded import load_autoencoder
from magictailor.world.judgement import judged
from magictailor.world.pairs import WorldPair, world_pair, write_pair
from magictailor.world.render import render
from magictailor.world.training.autoencoder import round_trip

REFERENCES = ("truth", "concept kept", "owner", "base")
PRIOR_IMAGES = 50  # per label; generating the default 200 would take longer than the training
Images = list[tuple[str, int, Image.Image]]  # prompt, seed, image


def through_autoencoder(images: Sequence[np.ndarray]) -> list[Image.Image]:
    decoded = round_trip(load_autoencoder(), torch.from_numpy(np.stack(images)))
    return [Image.fromarray(p) for p in ((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()]


def generated_by_base(pair: WorldPair, prompts: Sequence[str], seeds: int) -> Images:
    """Images of the base, from captions that describe the subjects in place of the pseudo-words."""
    keys = [(text, seed) for text in prompts for seed in range(seeds)]
    captions = []
    for text, _ in keys:
        request = parse_prompt(text, pair.words)
        assert request is not None
        captions.append(full_caption(request.scene(pair, request.subject(pair))))
    backbone = load_backbone()
    numbers, defaults = [pair.seed % 2**31 + seed for _, seed in keys], recipe_for(backbone.family).sampling
    images = sample(backbone, captions, numbers, SamplingOptions(defaults.steps, defaults.guidance))
    return [(text, seed, image) for (text, seed), image in zip(keys, images, strict=True)]


def reference_images(name: str, pair: WorldPair, prompts: Sequence[str], seeds: int) -> Images:
    if name == "base":
        return generated_by_base(pair, prompts, seeds)
    subject = {"truth": pair.composite, "concept kept": pair.concept, "owner": pair.owner}[name]
    requests = [parse_prompt(text, pair.words) for text in prompts]
    images = through_autoencoder([render(r.scene(pair, subject)).image for r in requests if r is not None])
    return [(text, 0, image) for text, image in zip(prompts, images, strict=True)]


def trained(
    arm: str, pair: WorldPair, folder: Path, prompts: Sequence[str], seeds: int
) -> tuple[Images, dict[str, float]]:
    """Train an arm on the pair and generate its images; returns them and the cost."""
    method, *settings = arm.split(": ")[-1].split()
    recipe = recipe_for("embedded", method, ["sampling.preview_every=0", *settings])
    if recipe.loss.prior is not None:
        recipe = with_settings(recipe, [f"loss.prior.images={PRIOR_IMAGES}"])
    began = time.monotonic()
    run = personalize(folder.parent / "pair", folder / "run", recipe=recipe)
    seconds = time.monotonic() - began
    images = run.generate(prompts, number=seeds, seed=pair.seed % 2**31)
    generated = [(item.record.prompt, item.record.seed - pair.seed % 2**31, item.image) for item in images]
    (run.folder / STATE_FILE).unlink()
    images_seen = recipe.steps * (recipe.data.batch or 2 * 3) * (2 if recipe.loss.prior else 1)
    return generated, {"seconds": seconds, "steps": recipe.steps, "images seen": images_seen}


def score_arm(arm: str, pair: WorldPair, home: Path, prompts: Sequence[str], seeds: int) -> dict[str, Any]:
    """The metrics of one arm on one pair, by image, and its cost."""
    folder = home / arm.split(":")[0].replace(" ", "-")
    if not (folder / "scores.json").exists():
        cost: dict[str, float] = {}
        if arm in REFERENCES:
            images = reference_images(arm, pair, prompts, seeds)
        else:
            images, cost = trained(arm, pair, folder, prompts, seeds)
        rows = []
        for number, (text, seed, image) in enumerate(images):
            save_png(image, folder / f"{number:02d}.png", {"prompt": text, "seed": str(seed)})
        for (text, seed, _), seen in zip(images, judged(judge_network(), [p[2] for p in images]), strict=True):
            request = parse_prompt(text, pair.words)
            assert request is not None
            rows.append(
                {"prompt": text, "seed": seed, **metric_values(pair, request, seen, read_truths(pair, request))}
            )
        write_json(folder / "scores.json", {"rows": rows, **cost})
    return dict(json.loads((folder / "scores.json").read_text("utf-8")))


def mean(result: dict[str, Any], name: str) -> float:
    values = [row[name] for row in result["rows"] if name in row]
    return float(np.mean(values)) if values else float("nan")


def shares(results: dict[str, dict[str, Any]], arm: str) -> tuple[float, float]:
    """The shares of concept and component on one pair; NaN if the reference arms hardly differ."""
    values = []
    for metric, worst in (("concept error", "owner"), ("component error", "concept kept")):
        floor, top, own = (mean(results[a], metric) for a in (worst, "truth", arm))
        values.append((floor - own) / (floor - top) if floor - top > 0.05 else float("nan"))
    return values[0], values[1]


def table(results: dict[int, dict[str, dict[str, Any]]], arms: Sequence[str]) -> Iterator[str]:
    names = [arm.split(":")[0] for arm in arms]
    yield f"{'arm':28} concept  component  (lower  quartile)  identity  text  found  pollution  seconds  by pair: component's share"
    for arm, name in zip(arms, names, strict=True):
        own = {seed: row[arm] for seed, row in results.items() if arm in row}
        both = np.array([shares(results[seed], arm) for seed in own])
        means = {
            key: np.nanmean([mean(r, key) for r in own.values()]) for key in ("identity", "text", "found", "pollution")
        }
        seconds = np.mean([r.get("seconds", 0) for r in own.values()])
        low = np.nanquantile(both, 0.25, 0)
        yield (
            f"{name:28} {np.nanmean(both[:, 0]):7.2f}  {np.nanmean(both[:, 1]):9.2f}  ({low[0]:5.2f}  {low[1]:8.2f})"
            f"  {means['identity']:8.3f}  {means['text']:4.2f}  {means['found']:5.2f}  {means['pollution']:9.2f}  {seconds:7.0f}"
            f"  {' '.join(f'{v:.2f}' for v in both[:, 1])}"
        )


def sheet(output: Path, seeds: Sequence[int], arms: Sequence[str]) -> None:
    """A row for each pair with the first image of each arm."""
    rows = []
    for seed in seeds:
        folders = [output / str(seed) / arm.split(":")[0].replace(" ", "-") for arm in arms]
        rows.append([Image.open(f / "00.png") for f in folders])
    titles = [f"{' '.join(world_pair(s).words)} {world_pair(s).challenge}" for s in seeds]
    save_png(grid(rows, titles, [arm.split(":")[0] for arm in arms]), output / "sheet.png")


def seeds_of(texts: Sequence[str]) -> list[int]:
    """Seeds from texts such as ``100000060+12`` (twelve seeds) and single numbers."""
    seeds: list[int] = []
    for text in texts:
        first, _, count = text.partition("+")
        seeds += range(int(first), int(first) + int(count or 1))
    return seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--arms", nargs="+", required=True)
    parser.add_argument("--challenge", help="the challenge of all pairs (default: by seed)")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--prompts", nargs="+", default=["", "snow", "beach", "night", "watercolor"])
    parser.add_argument(
        "--part", nargs=2, type=int, default=(0, 1), help="index and number of processes that share the pairs"
    )
    options = parser.parse_args()
    seeds = seeds_of(options.pairs)
    arms = [*REFERENCES, *options.arms]
    results: dict[int, dict[str, dict[str, Any]]] = {}
    for seed in seeds[options.part[0] :: options.part[1]]:
        pair, home = world_pair(seed, options.challenge), options.output / str(seed)
        if not (home / "pair").exists():
            write_pair(pair, home / "pair")
        both = " with ".join(pair.words)
        prompts = [f"{both}, {PROMPTS[p]}" if p else f"a photo of {both}" for p in options.prompts]
        results[seed] = {arm: score_arm(arm, pair, home, prompts, options.seeds) for arm in arms}
        shown = {arm.split(":")[0]: tuple(round(v, 2) for v in shares(results[seed], arm)) for arm in arms}
        print(seed, pair.challenge, *pair.words, shown, flush=True)
    if options.part[1] == 1:
        print("\n".join(table(results, arms)))
        sheet(options.output, seeds, arms)


if __name__ == "__main__":
    main()
