"""How far methods go from "not transferred" to the truth, on tuning pairs of the world, for concept and component each.

    python benchmarks/shares.py --output DIR --pairs 100000060+12 --arms magictailor clic plain-lora
    python benchmarks/shares.py --output DIR --pairs 100000060+4 --arms "rank 16: magictailor train.0.rank=16"

An arm is a method, or a name, a colon, a method and settings of its recipe. Beside the arms stand

- `truth`: the true picture through the base's autoencoder, the best that there can be;
- `concept kept`: the concept with its own component, through the autoencoder: nothing transferred;
- `owner`: the component's owner, through the autoencoder: nothing of the concept;
- `base`: the base with the full caption and no training: what it can draw of what words can say.

The judge's errors of concept and component are averaged over pictures. A share is (error of not transferred - error) /
(error of not transferred - error of the truth); for the component, not transferred is `concept kept`, for the concept it
is `owner`. Every cell is kept; the same command goes on where it stopped. Two processes with OMP_NUM_THREADS=1 use two
cores best: `--part 0 2` and `--part 1 2`, then once more without.
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

from magictailor import generate, load, personalize
from magictailor.backbones import load_backbone
from magictailor.backbones.sampling import sample
from magictailor.common.files import write_json
from magictailor.common.pictures import grid, save_png
from magictailor.evaluate.metrics.asked import asked
from magictailor.evaluate.metrics.judging import judge_network, scores, truths_of
from magictailor.generation.protocol import PROMPTS
from magictailor.training.loop import recipe_for
from magictailor.world.captions import full_caption
from magictailor.world.embedded import load_autoencoder
from magictailor.world.judgement import judged
from magictailor.world.pairs import WorldPair, world_pair, write_pair
from magictailor.world.render import render
from magictailor.world.training.autoencoder import round_trip

REFERENCES = ("truth", "concept kept", "owner", "base")
PRIORS = 50  # of a label, not 200: drawing them would take longer than the training
Pictures = list[tuple[str, int, Image.Image]]


def through_autoencoder(images: Sequence[np.ndarray]) -> list[Image.Image]:
    decoded = round_trip(load_autoencoder(), torch.from_numpy(np.stack(images)))
    return [Image.fromarray(p) for p in ((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()]


def drawn_by_base(pair: WorldPair, prompts: Sequence[str], seeds: int) -> Pictures:
    """With words for all that words can say, in place of the pseudo-words."""
    keys = [(text, seed) for text in prompts for seed in range(seeds)]
    captions = []
    for text, _ in keys:
        request = asked(text, pair.words)
        assert request is not None
        captions.append(full_caption(request.scene(pair, request.subject(pair))))
    backbone = load_backbone()
    numbers, defaults = [pair.seed % 2**31 + seed for _, seed in keys], backbone.defaults
    images = sample(backbone.pipeline, captions, numbers, defaults.sampling_steps, defaults.guidance, 128, 8)
    return [(text, seed, image) for (text, seed), image in zip(keys, images, strict=True)]


def reference(name: str, pair: WorldPair, prompts: Sequence[str], seeds: int) -> Pictures:
    if name == "base":
        return drawn_by_base(pair, prompts, seeds)
    subject = {"truth": pair.composite, "concept kept": pair.concept, "owner": pair.owner}[name]
    requests = [asked(text, pair.words) for text in prompts]
    images = through_autoencoder([render(r.scene(pair, subject)).image for r in requests if r is not None])
    return [(text, 0, image) for text, image in zip(prompts, images, strict=True)]


def trained(
    arm: str, pair: WorldPair, folder: Path, prompts: Sequence[str], seeds: int
) -> tuple[Pictures, dict[str, float]]:
    """Train an arm on the pair, and draw."""
    method, *settings = arm.split(": ")[-1].split()
    recipe = recipe_for(load_backbone(), method, ["preview_every=0", *settings])
    if recipe.prior is not None:
        recipe = recipe.model_copy(update={"prior": recipe.prior.model_copy(update={"images": PRIORS})})
    began = time.monotonic()
    personalize(folder.parent / "pair", folder / "run", recipe=recipe)
    seconds = time.monotonic() - began
    images = generate(folder / "run", prompts, number=seeds, seed=pair.seed % 2**31, pipeline=load(folder / "run"))
    pictures = [(item.record.prompt, item.record.seed - pair.seed % 2**31, item.image) for item in images]
    (folder / "run" / "checkpoint.safetensors").unlink()
    seen = recipe.steps * (recipe.batch or 2 * 3) * (2 if recipe.prior else 1)
    return pictures, {"seconds": seconds, "steps": recipe.steps, "pictures seen": seen}


def cell(arm: str, pair: WorldPair, home: Path, prompts: Sequence[str], seeds: int) -> dict[str, Any]:
    """Scores of one arm on one pair, by picture, and its cost."""
    folder = home / arm.split(":")[0].replace(" ", "-")
    if not (folder / "scores.json").exists():
        cost: dict[str, float] = {}
        if arm in REFERENCES:
            pictures = reference(arm, pair, prompts, seeds)
        else:
            pictures, cost = trained(arm, pair, folder, prompts, seeds)
        rows = []
        for number, (text, seed, image) in enumerate(pictures):
            save_png(image, folder / f"{number:02d}.png", {"prompt": text, "seed": str(seed)})
        for (text, seed, _), seen in zip(pictures, judged(judge_network(), [p[2] for p in pictures]), strict=True):
            request = asked(text, pair.words)
            assert request is not None
            rows.append({"prompt": text, "seed": seed, **scores(pair, request, seen, truths_of(pair, request))})
        write_json(folder / "scores.json", {"rows": rows, **cost})
    return dict(json.loads((folder / "scores.json").read_text("utf-8")))


def mean(result: dict[str, Any], name: str) -> float:
    values = [row[name] for row in result["rows"] if name in row]
    return float(np.mean(values)) if values else float("nan")


def shares(results: dict[str, dict[str, Any]], arm: str) -> tuple[float, float]:
    """Of the way from not transferred to the truth: concept, component. Of one pair."""
    found = []
    for name, worst in (("concept error", "owner"), ("component error", "concept kept")):
        floor, top, own = (mean(results[a], name) for a in (worst, "truth", arm))
        found.append((floor - own) / (floor - top) if floor - top > 0.05 else float("nan"))
    return found[0], found[1]


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
    """A row a pair: the first picture of each arm."""
    rows = []
    for seed in seeds:
        folders = [output / str(seed) / arm.split(":")[0].replace(" ", "-") for arm in arms]
        rows.append([Image.open(f / "00.png") for f in folders])
    titles = [f"{' '.join(world_pair(s).words)} {world_pair(s).challenge}" for s in seeds]
    save_png(grid(rows, titles, [arm.split(":")[0] for arm in arms]), output / "sheet.png")


def seeds_of(texts: Sequence[str]) -> list[int]:
    """``100000060+12`` and single numbers."""
    found: list[int] = []
    for text in texts:
        first, _, count = text.partition("+")
        found += range(int(first), int(first) + int(count or 1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--arms", nargs="+", required=True)
    parser.add_argument("--challenge", help="of all pairs; by their seeds if not given")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--prompts", nargs="+", default=["", "snow", "beach", "night", "watercolor"])
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), help="this one, of how many")
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
        results[seed] = {arm: cell(arm, pair, home, prompts, options.seeds) for arm in arms}
        shown = {arm.split(":")[0]: tuple(round(v, 2) for v in shares(results[seed], arm)) for arm in arms}
        print(seed, pair.challenge, *pair.words, shown, flush=True)
    if options.part[1] == 1:
        print("\n".join(table(results, arms)))
        sheet(options.output, seeds, arms)


if __name__ == "__main__":
    main()
