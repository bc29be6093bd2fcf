"""Personalised runs under control: do pictures follow the lines, and does the subject stay itself?

    python benchmarks/control_identity.py --bench FOLDER --output DIR [--pairs 8] [--method magictailor]

Takes the finished trainings of a bench on pairs of the world. Each prompt is drawn with the same noise without control, with the
lines of the true picture, and with the lines of another character of the category, which contradict the component's own. Prints the
means over pairs with 95 % intervals: overlap of edges, identity and text by the judge; writes rows.json and a sheet.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from magictailor import Control, Pair, load
from magictailor.attachments.lines import canny, overlap
from magictailor.common.files import write_json
from magictailor.common.pictures import grid, save_png
from magictailor.evaluate.metrics.judging import JudgeScorer, unrelated_owner
from magictailor.evaluate.metrics.request import parse_prompt
from magictailor.evaluate.metrics.scorer import ScoredImage, Target
from magictailor.evaluate.reporting.statistics import sign_flip_interval
from magictailor.generation.protocol import PROMPTS
from magictailor.training.run_folder import is_finished
from magictailor.world.pairs import WorldPair, world_pair
from magictailor.world.render import render

CLAUSES = ("snow", "beach", "night", "watercolor")
SEEDS = 2
ARMS = ("without", "its own lines", "another's lines")
METRICS = ("overlap", "identity", "concept error", "component error", "text")


def drawings(pair: WorldPair, prompt: str, words: Sequence[str]) -> dict[str, Image.Image]:
    """The pictures whose lines are followed, by arm."""
    request = parse_prompt(prompt, words)
    assert request is not None
    subjects = {"its own lines": request.subject(pair), "another's lines": unrelated_owner(pair, 0)}
    return {arm: Image.fromarray(render(request.scene(pair, subject)).image) for arm, subject in subjects.items()}


def measure(folder: Path, pair: WorldPair) -> tuple[dict[str, dict[str, float]], list[list[Image.Image]]]:
    """Means of each arm's metrics, and the first prompt's pictures."""
    run, scorer = load(folder, device="cpu", precision="fp32"), JudgeScorer()
    words, rows, shown = run.info.words, dict[str, list[dict[str, float]]](), list[list[Image.Image]]()
    target = Target(Pair(folder.name, ()), list(words), pair)
    for clause in CLAUSES:
        prompt = f"{' with '.join(words)}, {PROMPTS[clause]}"
        followed = drawings(pair, prompt, list(words))
        row: list[Image.Image] = list(followed.values())
        with TemporaryDirectory() as scratch:
            for arm in ARMS:
                requests = []
                if arm in followed:
                    save_png(followed[arm], Path(scratch, "drawing.png"))
                    requests = [Control("lines", Path(scratch, "drawing.png"))]
                images = [made.image for made in run.generate(prompt, number=SEEDS, attachments=requests)]
                scored = [ScoredImage(prompt, seed, image) for seed, image in enumerate(images)]
                found: list[dict[str, float]] = [{} for _ in images]
                for score in scorer.score(target, scored):
                    found[score.seed][score.metric] = score.value
                lines = canny(np.asarray(followed[arm if requests else "its own lines"]))
                for values, image in zip(found, images, strict=True):
                    values["overlap"] = overlap(canny(np.asarray(image.convert("RGB"))), lines)
                rows.setdefault(arm, []).extend(found)
                row.append(images[0])
        shown.append(row)
    means = {
        arm: {m: float(np.mean([v[m] for v in values if m in v])) for m in METRICS if any(m in v for v in values)}
        for arm, values in rows.items()
    }
    return means, shown[:1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    for folder in runs[: options.pairs]:
        name = folder.parent.name
        if name not in rows:
            rows[name], shown = measure(folder, world_pair(int(name.removeprefix("world-"))))
            sheet += shown
            write_json(kept, rows)
            print(name, {arm: round(values["identity"], 3) for arm, values in rows[name].items()}, flush=True)
    if sheet:
        save_png(grid(sheet, column_titles=["picture", "another's", *ARMS]), options.output / "sheet.png")
    for metric in METRICS:
        for arm in ARMS:
            values = [row[arm][metric] for row in rows.values()]
            text = f"{metric:16} {arm:16} {np.mean(values):.3f}"
            if arm != ARMS[0]:
                change = sign_flip_interval([row[arm][metric] - row[ARMS[0]][metric] for row in rows.values()])
                text += f"   change {change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
            print(text)
    print(f"{len(rows)} pairs, {len(CLAUSES)} prompts, {SEEDS} seeds")


if __name__ == "__main__":
    main()
