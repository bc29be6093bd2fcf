"""Running a bench: a unit is a pair and a method; whatever is finished is never done again."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from PIL import Image

from magictailor.backbones import load_backbone
from magictailor.backbones.placement import Where
from magictailor.common.errors import InputError, RunError
from magictailor.common.files import write_json
from magictailor.common.pictures import save_png
from magictailor.data import Pair
from magictailor.evaluate.claims import claim, held
from magictailor.evaluate.metrics import metrics_named, ready
from magictailor.evaluate.metrics.contract import Drawn, Metric, Subject
from magictailor.evaluate.records import Row, first_seed, read_cost, read_unit, write_rows
from magictailor.evaluate.spec import Source, Spec
from magictailor.generation.pictures import generate, load, picture_name
from magictailor.training.checkpoint import RUN_FILE, STATE_FILE, describe_pair, finished, stored_bytes
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

    def seeds(self, spec: Spec) -> range:
        """Of the pictures of each prompt."""
        first = first_seed(self.source.name)
        return range(first, first + spec.seeds)

    def picture(self, prompt: str, seed: int) -> Path:
        return self.home / "images" / self.name / picture_name(prompt, seed)

    def keys(self, spec: Spec, words: Sequence[str]) -> set[tuple[str, int]]:
        """(prompt, seed) of all that is wanted."""
        return {(text, seed) for text in spec.texts(words) for seed in self.seeds(spec)}

    def missing(self, spec: Spec, words: Sequence[str], metrics: Mapping[str, Metric]) -> dict[str, int]:
        """How many pictures each metric has not judged; a bench may have grown, a judge may be another."""
        rows, judges = read_unit(self.results)
        wanted = self.keys(spec, words)
        left = {}
        for name, metric in metrics.items():
            there = (
                {(r.prompt, r.seed) for r in rows if r.metric == name} if judges.get(name) == metric.model else set()
            )
            left[name] = len(wanted - there)
        return {name: count for name, count in left.items() if count}


def units(spec: Spec, found: Sequence[Source], home: Path) -> list[Unit]:
    """Pair after pair, so that an unfinished bench has whole pairs to compare methods on."""
    return [Unit(source, method, home) for source in found for method in spec.methods]


def spec_metrics(spec: Spec) -> dict[str, Metric]:
    """Raises InputError for a name that is not known."""
    segmenter = spec.segmenter or ("embedded" if spec.model == "embedded" else "dino+sam")
    return metrics_named(spec.metrics, spec.weights, segmenter)


def _made_of(unit: Unit, pair: Pair, spec: Spec) -> dict[str, Any]:
    """What a unit's results depend on, beside its method."""
    return {"model": spec.model, "settings": spec.settings_of(unit.method), "pair": describe_pair(pair)}


def _refuse_another(unit: Unit, pair: Pair, spec: Spec) -> None:
    """Raises InputError where what is there was made of something else."""
    if unit.cost.exists():
        there, now = read_cost(unit.cost)["of"], _made_of(unit, pair, spec)
        differs = [key for key, value in now.items() if there.get(key) != value]
        if differs:
            raise InputError(f"{unit.home}: {unit.name} is there with another {differs[0]}; choose another folder")


def _train(unit: Unit, pair: Pair, spec: Spec, where: Where, watch: Watch) -> None:
    """Unless it is trained; costs may be there without the run, if a bench's rows were kept alone."""
    if unit.cost.exists() and (unit.run / RUN_FILE).exists() and finished(unit.run):
        return
    backbone = load_backbone(spec.model, **where)
    recipe = recipe_for(backbone, unit.method, ["preview_every=0", *spec.settings_of(unit.method)])
    personalize(
        pair, unit.run, model=backbone, recipe=recipe, watch=lambda i, n, figures: watch(i, n, figures, unit.name)
    )
    run = json.loads((unit.run / RUN_FILE).read_text("utf-8"))
    cost = {
        "steps": recipe.steps,
        "seconds": run["seconds"],
        "peak_gb": run.get("peak_gb"),
        "bytes": stored_bytes(unit.run),
    }
    write_json(unit.cost, {**cost, "of": _made_of(unit, pair, spec)})
    (unit.run / STATE_FILE).unlink(missing_ok=True)  # up to 140 MB, and of no more use


def _draw(unit: Unit, spec: Spec, prompt: str, pipeline: Any) -> None:
    """``spec.batch`` seeds are one batch, drawn again as a whole where one is missing: the same bytes, whatever was killed."""
    wanted = unit.seeds(spec)
    for first in range(0, len(wanted), spec.batch):
        seeds = wanted[first : first + spec.batch]
        if all(unit.picture(prompt, seed).exists() for seed in seeds):
            continue
        for item in generate(unit.run, prompt, number=len(seeds), seed=seeds[0], batch=len(seeds), pipeline=pipeline):
            path = unit.picture(prompt, item.record.seed)
            if not path.exists():
                save_png(item.image, path, item.record.metadata())


def _scored(unit: Unit, name: str, metric: Metric, subject: Subject, pictures: Sequence[Drawn]) -> Iterator[Row]:
    """All pictures of a unit by one metric, each at least once."""
    left = {(drawn.prompt, drawn.seed) for drawn in pictures}
    for f in metric.score(subject, pictures):
        left.discard((f.prompt, f.seed))
        yield Row(unit.source.name, unit.method, f.prompt, f.seed, name, f.name, f.value)
    for prompt, seed in left:
        yield Row(unit.source.name, unit.method, prompt, seed, name, "", float("nan"))


def _pictures(unit: Unit, keys: Iterable[tuple[str, int]]) -> list[Drawn]:
    """Raises InputError for a damaged one."""
    pictures = []
    for prompt, seed in sorted(keys):
        path = unit.picture(prompt, seed)
        try:
            with Image.open(path) as opened:
                pictures.append(Drawn(prompt, seed, opened.convert("RGB")))
        except (OSError, SyntaxError) as error:
            raise InputError(f"{path}: damaged ({error}); delete it, and run the bench again") from error
    return pictures


def _score(unit: Unit, name: str, metric: Metric, subject: Subject, wanted: set[tuple[str, int]]) -> None:
    """Judge by one metric: what is wanted, and what this judge or another has judged before and is still there.

    Rows of other metrics stay, and this judge's own of pictures that are gone.
    """
    rows, judges = read_unit(unit.results)
    same = judges.get(name) == metric.model
    before = {(r.prompt, r.seed) for r in rows if r.metric == name and r.prompt}
    keys = wanted | {key for key in before if unit.picture(*key).exists()}
    kept = [r for r in rows if r.metric != name or (same and r.prompt and (r.prompt, r.seed) not in keys)]
    new = _scored(unit, name, metric, subject, _pictures(unit, keys))
    write_rows(unit.results, [*kept, *new], {**judges, name: metric.model})


def work(unit: Unit, spec: Spec, metrics: Mapping[str, Metric], where: Where, watch: Watch) -> bool:
    """Do what is missing of a unit; False where there was nothing."""
    pair = unit.source.read(unit.home / "pairs")
    words = list(pair.words)
    missing = unit.missing(spec, words, metrics)
    if not missing:
        return False
    keys = unit.keys(spec, words)
    if not all(unit.picture(prompt, seed).exists() for prompt, seed in keys):
        _train(unit, pair, spec, where, watch)
        pipeline, prompts = load(unit.run, **where), spec.texts(words)
        for number, prompt in enumerate(prompts):
            _draw(unit, spec, prompt, pipeline)
            watch(number + 1, len(prompts), {}, f"{unit.name}, pictures")
    subject = Subject(pair, words, unit.source.world, unit.home / "features" / unit.name)
    for name in missing:
        _score(unit, name, metrics[name], subject, keys)
    return True


def _with_others(every: Sequence[Unit], attempt: Callable[[Unit], bool], watch: Watch) -> int:
    """Attempt all units that no other worker holds; returns how many are held in the end.

    What was held is looked at again when the rest is done: a killed worker's unit is free by then.
    """
    left, worked, done = list(every), True, 0
    while left and worked:
        looked_at, left, worked = left, [], False
        for unit in looked_at:
            watch(done, len(every), {}, None)
            with claim(unit.lock) as mine:
                worked |= mine and attempt(unit)
            if mine:
                done += 1
            else:
                left.append(unit)
    watch(done, len(every), {}, None)
    return len(left)


def run_bench(
    spec: Spec,
    found: Sequence[Source],
    home: Path,
    watch: Watch = lambda *_: None,
    tell: Callable[[str], None] = lambda _: None,
    **where: Unpack[Where],
) -> int:
    """Work on all units that nobody else works on; returns how many are left to others.

    Any number of processes or machines may do so in one folder. Killed, a worker loses no more than a checkpoint's time
    of its current unit, which another takes up after a minute. ``tell`` hears of metrics whose models are not there; the
    others go on, and a later call adds those.

    Raises:
        InputError: no metric can be computed, a pair that cannot be read, settings that do not fit, a folder that holds another
            bench's unit. Nothing has been trained.
        RunError: at the end, where units could not be done; the others are.
    """
    every, broken = units(spec, found, home), set[str]()
    metrics, notes = ready(spec_metrics(spec))
    for note in notes:
        tell(note)
    _check_recipes(spec, where)
    for unit in every:
        _refuse_another(unit, unit.source.read(home / "pairs"), spec)

    def tried(unit: Unit) -> bool:
        try:
            return work(unit, spec, metrics, where, watch)
        except (InputError, RunError) as error:
            broken.add(unit.name)
            tell(f"{unit.name} is left out: {error}")
            return False

    left = _with_others(every, tried, watch)
    if broken:
        raise RunError(
            f"{len(broken)} of {len(every)} units could not be done, see above; the same command tries them again"
        )
    return left


def _check_recipes(spec: Spec, where: Where) -> None:
    """Each method's settings fit its recipe. Raises InputError."""
    backbone = load_backbone(spec.model, **where)
    for method in spec.methods:
        recipe_for(backbone, method, spec.settings_of(method))


def status(spec: Spec, found: Sequence[Source], home: Path) -> dict[str, str]:
    """Of each unit: done, so many pictures missing, at work, or waiting."""
    told, metrics = {}, spec_metrics(spec)
    for unit in units(spec, found, home):
        pair = unit.source.read(home / "pairs")
        missing = max(unit.missing(spec, list(pair.words), metrics).values(), default=0)
        state = "done" if not missing else f"{missing} to judge" if unit.results.exists() else "waiting"
        told[unit.name] = "at work" if held(unit.lock) else state
    return told
