"""Personalised runs with lines to follow or a style image: does the image take them up, and does the subject stay itself?

    python benchmarks/attached_identity.py control --bench FOLDER --output DIR [--pairs 8] [--method magictailor]
    python benchmarks/attached_identity.py style   --bench FOLDER --output DIR

Takes the finished trainings of a bench on pairs of the world, and generates each prompt with the same noise in each arm:

- control: without; with the lines of the true image; with the lines of another character of the category, which contradict the
  component's own.
- style: without; with an image of another character in a style; without it, but with the style named in the prompt.

Prints the means over pairs, and the changes with 95 % intervals; writes rows.json and a sheet. The same command goes on.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from magictailor import Control, Pair, Style, load
from magictailor.attachments.lines import canny, overlap
from magictailor.common.files import write_json
from magictailor.common.pictures import grid, save_png
from magictailor.evaluate.metrics.judging import JudgeScorer, unrelated_owner
from magictailor.evaluate.metrics.prompts import parse_prompt
from magictailor.evaluate.metrics.scorer import ScoredImage, Target
from magictailor.evaluate.reporting.statistics import sign_flip_interval
from magictailor.generation.protocol import PROMPTS
from magictailor.training.run_folder import is_finished
from magictailor.world.pairs import WorldPair, world_pair
from magictailor.world.render import render
from magictailor.world.scene import Concept, Scene

CLAUSES = {"control": ("snow", "beach", "night", "watercolor"), "style": ("watercolor", "clay", "pixel", "comic")}
SEEDS = 2
METRICS = ("overlap", "identity", "concept error", "component error", "text")


@dataclass(frozen=True)
class Arm:
    """``shown``: the image that is attached. ``depicts``: the prompt that describes the result; ``wanted``: the one whose clauses
    count as text. ``lines``: of the image whose edges the result should have."""

    name: str
    prompt: str
    depicts: str
    wanted: str
    shown: Image.Image | None = None
    lines: np.ndarray | None = None


def drawn(pair: WorldPair, prompt: str, words: list[str], subject: Concept | None = None) -> Image.Image:
    """The true image of a prompt, or the same of another subject."""
    parsed = parse_prompt(prompt, words)
    assert parsed is not None
    return Image.fromarray(render(parsed.scene(pair, subject or parsed.subject(pair))).image)


def control_arms(pair: WorldPair, words: list[str], clause: str) -> Iterator[Arm]:
    prompt = f"{' with '.join(words)}, {PROMPTS[clause]}"
    own, other = drawn(pair, prompt, words), drawn(pair, prompt, words, unrelated_owner(pair, 0))
    arm = partial(Arm, prompt=prompt, depicts=prompt, wanted=prompt)
    yield arm("without", lines=canny(np.asarray(own)))
    yield arm("its own lines", shown=own, lines=canny(np.asarray(own)))
    yield arm("another's lines", shown=other, lines=canny(np.asarray(other)))


def style_arms(pair: WorldPair, words: list[str], clause: str) -> Iterator[Arm]:
    plain = " with ".join(words)
    styled = f"{plain}, {PROMPTS[clause]}"
    shown = Scene((unrelated_owner(pair, 0),), treatment=clause, noise=pair.seed % 2**31)
    yield Arm("without", plain, plain, styled)
    yield Arm("shown", plain, styled, styled, Image.fromarray(render(shown).image))
    yield Arm("named", styled, styled, styled)


ARMS = {"control": control_arms, "style": style_arms}


def measure(kind: str, folder: Path, pair: WorldPair) -> tuple[dict[str, dict[str, float]], list[list[Image.Image]]]:
    """Means of each arm's metrics; and for each prompt the attached images, then the first result of each arm."""
    run, scorer = load(folder, device="cpu", precision="fp32"), JudgeScorer()
    words = list(run.info.words)
    target = Target(Pair(folder.name, ()), words, pair)
    rows, sheet = dict[str, list[dict[str, float]]](), list[list[Image.Image]]()
    for clause in CLAUSES[kind]:
        arms = list(ARMS[kind](pair, words, clause))
        line = [arm.shown for arm in arms if arm.shown is not None]
        for arm in arms:
            with TemporaryDirectory() as scratch:
                file = Path(scratch) / "shown.png"
                if arm.shown is not None:
                    save_png(arm.shown, file)
                spec = Control("lines", file) if kind == "control" else Style(file)
                attached = [spec] if arm.shown is not None else []
                images = [made.image for made in run.generate(arm.prompt, number=SEEDS, attachments=attached)]
            values: list[dict[str, float]] = [{} for _ in images]
            for prompt, metrics in ((arm.depicts, METRICS[:-1]), (arm.wanted, METRICS[-1:])):
                for score in scorer.score(target, [ScoredImage(prompt, *item) for item in enumerate(images)]):
                    if score.metric in metrics:
                        values[score.seed][score.metric] = score.value
            if arm.lines is not None:
                for found, image in zip(values, images, strict=True):
                    found["overlap"] = overlap(canny(np.asarray(image.convert("RGB"))), arm.lines)
            rows.setdefault(arm.name, []).extend(values)
            line.append(images[0])
        sheet.append(line)
    means = {
        name: {m: float(np.mean([v[m] for v in values if m in v])) for m in METRICS if any(m in v for v in values)}
        for name, values in rows.items()
    }
    return means, sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=ARMS)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--method", default="magictailor")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    kept = options.output / "rows.json"
    rows: dict[str, dict[str, dict[str, float]]] = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    runs = [path for path in sorted((options.bench / "runs").glob(f"world-*/{options.method}")) if is_finished(path)]
    sheet: list[list[Image.Image]] = []
    for number, folder in enumerate(runs[: options.pairs]):
        name = folder.parent.name
        if name not in rows:
            rows[name], shown = measure(options.kind, folder, world_pair(int(name.removeprefix("world-"))))
            sheet.append(shown[number % len(shown)])
            write_json(kept, rows)
            print(name, {arm: round(values["identity"], 3) for arm, values in rows[name].items()}, flush=True)
    if not rows:
        parser.error(f"no finished training of {options.method} in {options.bench}")
    arms = list(next(iter(rows.values())))
    if sheet:
        shown_titles = ["true", "another's"] if options.kind == "control" else ["shown"]
        save_png(grid(sheet, column_titles=[*shown_titles, *arms]), options.output / "sheet.png")
    for metric in METRICS:
        for arm in arms:
            values = [row[arm][metric] for row in rows.values() if metric in row[arm]]
            if not values:
                continue
            text = f"{metric:16} {arm:16} {np.mean(values):.3f}"
            if arm != arms[0]:
                change = sign_flip_interval([row[arm][metric] - row[arms[0]][metric] for row in rows.values()])
                text += f"   change {change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
            print(text)
    print(f"{len(rows)} pairs, {len(CLAUSES[options.kind])} prompts, {SEEDS} seeds")


if __name__ == "__main__":
    main()
