"""Running a bench: a unit is a pair and a method; whatever is finished is never done again."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from PIL import Image

from magictailor.backbones import load_backbone
from magictailor.backbones.placement import Where
from magictailor.data import Pair
from magictailor.errors import InputError
from magictailor.evaluate.claims import claim, held
from magictailor.evaluate.metrics import Asked, Metric, known_metrics
from magictailor.evaluate.records import Row, read_rows, write_rows
from magictailor.evaluate.spec import Source, Spec
from magictailor.files import write_json
from magictailor.generation.pictures import generate, load, picture_name
from magictailor.pictures import save_png
from magictailor.training.checkpoint import describe_pair, read_run, stored_bytes
from magictailor.training.loop import personalize, recipe_for

Watch = Callable[[int, int, dict[str, float], str | None], None]


@dataclass(frozen=True)
class Unit:
    """A pair trained by a method, and where what comes of it lies."""

    source: Source
    method: str
    home: Path

    @property
    def name(self) -> str:
        return f"{self.source.name}/{self.method}"

    @property
    def run(self) -> Path:
        return self.home / "runs" / self.name

    @property
    def results(self) -> Path:
        return self.home / "results" / f"{self.name}.parquet"

    @property
    def cost(self) -> Path:
        return self.home / "costs" / f"{self.name}.json"

    @property
    def lock(self) -> Path:
        return self.home / "claims" / f"{self.name.replace('/', '--')}.json"

    def picture(self, prompt: str, seed: int) -> Path:
        return self.home / "images" / self.name / picture_name(prompt, seed)

    def keys(self, spec: Spec, words: Sequence[str]) -> set[tuple[str, int]]:
        """(prompt, seed) of all that is wanted."""
        return {(text, seed) for text in spec.texts(words) for seed in range(spec.seeds)}

    def missing(self, spec: Spec, words: Sequence[str]) -> set[tuple[str, int]]:
        """What is wanted and not in the results; a bench may have grown."""
        there = {(row.prompt, row.seed) for row in read_rows(self.results)} if self.results.exists() else set()
        return self.keys(spec, words) - there


def units(spec: Spec, found: Sequence[Source], home: Path) -> list[Unit]:
    return [Unit(source, method, home) for method in spec.methods for source in found]


def _made_of(pair: Pair, spec: Spec) -> dict[str, Any]:
    """What a unit's results depend on, beside its method."""
    return {"model": spec.model, "settings": list(spec.settings), "pair": describe_pair(pair)}


def _refuse_another(unit: Unit, pair: Pair, spec: Spec) -> None:
    """Raises InputError where what is there was made of something else."""
    if unit.cost.exists():
        there, now = json.loads(unit.cost.read_text("utf-8"))["of"], _made_of(pair, spec)
        differs = [key for key, value in now.items() if there.get(key) != value]
        if differs:
            raise InputError(f"{unit.home}: {unit.name} is there with another {differs[0]}; choose another folder")


def _train(unit: Unit, pair: Pair, spec: Spec, where: Where, watch: Watch) -> None:
    """Unless it is trained."""
    if unit.cost.exists():
        return
    backbone = load_backbone(spec.model, **where)
    recipe = recipe_for(backbone, unit.method, ["preview_every=0", *spec.settings])
    personalize(
        pair, unit.run, model=backbone, recipe=recipe, watch=lambda i, n, figures: watch(i, n, figures, unit.name)
    )
    run = json.loads((unit.run / "run.json").read_text("utf-8"))
    cost = {
        "steps": recipe.steps,
        "seconds": run["seconds"],
        "peak_gb": run.get("peak_gb"),
        "bytes": stored_bytes(unit.run),
    }
    write_json(unit.cost, {**cost, "of": _made_of(pair, spec)})


def _draw(unit: Unit, spec: Spec, prompts: Sequence[str], pipeline: Any) -> None:
    """All seeds of a prompt are one batch, drawn again as a whole where one is missing: the same bytes, whatever was killed."""
    for prompt in prompts:
        if all(unit.picture(prompt, seed).exists() for seed in range(spec.seeds)):
            continue
        for item in generate(unit.run, prompt, number=spec.seeds, batch=spec.seeds, pipeline=pipeline):
            path = unit.picture(prompt, item.record.seed)
            if not path.exists():
                save_png(item.image, path, item.record.metadata())


def _scored(
    unit: Unit, keys: Sequence[tuple[str, int]], words: Sequence[str], metrics: Sequence[Metric]
) -> Iterator[Row]:
    for prompt, seed in keys:
        asked = Asked(prompt, words, unit.source.world)
        with Image.open(unit.picture(prompt, seed)) as opened:
            image = opened.convert("RGB")
        figures = {name: value for metric in metrics for name, value in metric.score(image, asked).items()}
        for name, value in (figures or {"none": float("nan")}).items():
            yield Row(unit.source.name, unit.method, prompt, seed, name, value)


def work(unit: Unit, spec: Spec, where: Where, watch: Watch) -> bool:
    """Do what is missing of a unit; False where there was nothing."""
    pair = unit.source.read(unit.home / "pairs")
    _refuse_another(unit, pair, spec)
    words = list(pair.words)
    if not unit.missing(spec, words):
        return False
    _train(unit, pair, spec, where, watch)
    words = list(read_run(unit.run).words)
    pipeline = load(unit.run, **where)
    prompts = spec.texts(words)
    for number, prompt in enumerate(prompts):
        _draw(unit, spec, [prompt], pipeline)
        watch(number + 1, len(prompts), {}, f"{unit.name}, pictures")
    rows = _scored(unit, sorted(unit.keys(spec, words)), words, known_metrics())
    write_rows(unit.results, rows)
    return True


def run_bench(
    spec: Spec, found: Sequence[Source], home: Path, watch: Watch = lambda *_: None, **where: Unpack[Where]
) -> int:
    """Work on all units that nobody else works on; returns how many are left to others.

    Any number of processes or machines may do so in one folder. Killed, a worker loses no more than a checkpoint's time
    of its current unit, which another takes up after a minute.

    Raises:
        InputError: a pair that cannot be read, a folder that holds another run in a unit's place.
    """
    left, every = 0, units(spec, found, home)
    for number, unit in enumerate(every):
        with claim(unit.lock) as mine:
            if mine:
                work(unit, spec, where, watch)
            else:
                left += 1
        watch(number + 1, len(every), {}, "units")
    return left


def status(spec: Spec, found: Sequence[Source], home: Path) -> dict[str, str]:
    """Of each unit: done, so many pictures missing, at work, or waiting."""
    told = {}
    for unit in units(spec, found, home):
        pair = unit.source.read(home / "pairs")
        missing = len(unit.missing(spec, list(pair.words)))
        state = "done" if not missing else f"{missing} rows missing" if unit.results.exists() else "waiting"
        told[unit.name] = "at work" if held(unit.lock) else state
    return told
