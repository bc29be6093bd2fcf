"""A self-contained HTML page: inline images, curves as SVG, no script."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader
from PIL import Image

from magictailor.common.files import write_text
from magictailor.common.pictures import data_url
from magictailor.training.metrics import read_metrics
from magictailor.training.run_folder import read_run
from magictailor.world.pairs import WorldPair

WIDTH, HEIGHT = 640, 200
CURVES = {"diffusion.0": "concept", "diffusion.1": "component"}


def inline(path: Path) -> str:
    """The PNG as a data URL."""
    return data_url(path.read_bytes())


def smoothed(values: Sequence[float], weight: float = 0.95) -> list[float]:
    """Exponential moving average, with bias correction."""
    averages, total, norm = [], 0.0, 0.0
    for value in values:
        total, norm = weight * total + (1 - weight) * value, weight * norm + (1 - weight)
        averages.append(total / norm)
    return averages


def curves(rows: Sequence[dict[str, float]]) -> list[dict[str, str]]:
    """The points of a polyline for each sample's loss, scaled to their common maximum."""
    series = {key: smoothed([row[key] for row in rows]) for key in CURVES if all(key in row for row in rows)}
    top = max((max(s) for s in series.values()), default=1.0) or 1.0
    lines = []
    for key, values in series.items():
        step = WIDTH / max(1, len(values) - 1)
        points = " ".join(f"{i * step:.1f},{HEIGHT - v / top * (HEIGHT - 10):.1f}" for i, v in enumerate(values))
        lines.append({"name": CURVES[key], "points": points})
    return lines


def _previews(run: Path) -> list[dict[str, object]]:
    """Previews of one seed by step, as in the paper's figure 5."""
    folder = run / "previews"
    steps = sorted({path.name.split("-")[0] for path in folder.glob("*.png")})
    return [{"step": int(s), "images": [inline(path) for path in sorted(folder.glob(f"{s}-*.png"))]} for s in steps]


def _generated(images: Path, prompts: Sequence[str]) -> list[list[str]]:
    """The generated images of each prompt, in the order of their seeds."""
    found: dict[str, dict[int, str]] = {prompt: {} for prompt in prompts}
    for path in images.glob("*.png"):
        with Image.open(path) as image:
            if image.info.get("prompt") in found:
                found[image.info["prompt"]][int(image.info["seed"])] = inline(path)
    return [[found[prompt][seed] for seed in sorted(found[prompt])] for prompt in prompts]


def write_page(folder: Path, pair: WorldPair, prompts: Mapping[str, Sequence[str]], truths: Sequence[str]) -> Path:
    """Write ``folder/index.html`` from the demo's pair, run and images.

    ``prompts``: by folder of images; ``truths``: the protocol's names of the prompts in ``prompts["prompts"]``.
    """
    run, truth = folder / "run", folder / "pair" / "truth"
    info = read_run(run)
    images = {name: _generated(folder / "images" / name, texts) for name, texts in prompts.items()}
    photos = [inline(folder / "pair" / f"{i}_{label}_a0.png") for i, label in enumerate(pair.labels)]
    page = Environment(loader=PackageLoader("magictailor.demo", "."), autoescape=True).get_template("page.html")
    text = page.render(
        run=shlex.quote(str(run)),
        labels=pair.labels,
        words=list(info.words),
        photos=photos,
        prompts=prompts,
        images=images,
        truth=inline(truth / "composite.png"),
        truths=[inline(truth / f"composite-{name}.png") for name in truths],
        overview=inline(run / "pair.png"),
        learning=_previews(run),
        curves=curves(read_metrics(run)),
        boundary=WIDTH * info.recipe.phases[0].steps / info.recipe.steps,
        steps=info.recipe.steps,
        width=WIDTH,
        height=HEIGHT,
        method=info.recipe.method,
        recipe=json.dumps(info.recipe.dump(), indent=2),
        seconds=json.loads((run / "run.json").read_text("utf-8"))["seconds"],
    )
    write_text(folder / "index.html", text)
    return folder / "index.html"
