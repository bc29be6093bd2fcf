"""Run a bench unit by unit. Finished work is never done again."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from PIL import Image

from magictailor.api import Run, load
from magictailor.backbones import RuntimeOptions, load_backbone
from magictailor.common.errors import InputError, RunError
from magictailor.common.events import Listener, Notice, Progress, ignore, with_task
from magictailor.common.files import output_folder, write_json
from magictailor.common.pictures import save_png
from magictailor.common.records import read_json
from magictailor.data import Pair
from magictailor.evaluate.locks import acquire, is_locked
from magictailor.evaluate.metrics import load_scorers, make_scorers
from magictailor.evaluate.metrics.scorer import ScoredImage, Scorer, Target
from magictailor.evaluate.records import Row, read_cost, read_unit, write_rows
from magictailor.evaluate.spec import Source, Spec
from magictailor.evaluate.units import Key, Unit, make_units
from magictailor.generation.reference_only import REFERENCE_ONLY, ReferenceOnly
from magictailor.training.checkpoint import STATE_FILE
from magictailor.training.run_folder import RUN_FILE, describe_pair, is_finished, stored_bytes
from magictailor.training.train import make_recipe, train

OF_GENERATING = ("data.size=", "sampling.")  # settings that also hold where nothing is trained


def spec_scorers(spec: Spec) -> dict[str, Scorer]:
    """The spec's scorers by name. Raises InputError for an unknown name."""
    segmenter = spec.segmenter or ("embedded" if spec.model == "embedded" else "dino+sam")
    return make_scorers(spec.metrics, spec.weights, segmenter)


def _inputs(unit: Unit, pair: Pair, spec: Spec) -> dict[str, Any]:
    """What a unit's results depend on, besides its method."""
    return {"model": spec.model, "settings": spec.settings_of(unit.method), "pair": describe_pair(pair)}


def _check_inputs(unit: Unit, pair: Pair, spec: Spec) -> None:
    """Raises InputError if the unit's existing results have other inputs."""
    if unit.cost.exists():
        stored, inputs = read_cost(unit.cost)["of"], _inputs(unit, pair, spec)
        differing = [key for key, value in inputs.items() if stored.get(key) != value]
        if differing:
            problem = f"{unit.bench}: {unit.name} was made with different {differing[0]}"
            raise InputError(problem, "choose another folder", field="output")


def _check_recipes(spec: Spec, runtime: RuntimeOptions) -> None:
    """Raises InputError if a method's settings do not fit its recipe."""
    backbone = load_backbone(spec.model, **runtime)
    if REFERENCE_ONLY in spec.methods and not backbone.takes_references:
        problem = f"{REFERENCE_ONLY}: {backbone.family} takes no reference images"
        raise InputError(problem, "leave it out, or choose FLUX.2", field="methods")
    for method in (m for m in spec.methods if m != REFERENCE_ONLY):
        make_recipe(backbone, method, spec.settings_of(method))


def _generator(unit: Unit, pair: Pair, spec: Spec, runtime: RuntimeOptions, listen: Listener) -> Run | ReferenceOnly:
    """What generates the unit's images, trained if its method trains."""
    if unit.method != REFERENCE_ONLY:
        _train(unit, pair, spec, runtime, listen)
        return load(unit.run, **runtime)
    backbone = load_backbone(spec.model, **runtime)
    own = [s for s in spec.settings_of(unit.method) if s.startswith(OF_GENERATING)]
    recipe = make_recipe(backbone, settings=own)
    if recipe.data.size is not None:
        backbone.use_size(recipe.data.size)
    nothing = {"steps": 0, "seconds": 0.0, "peak_gb": None, "bytes": 0}
    write_json(unit.cost, {**nothing, "of": _inputs(unit, pair, spec)})
    return ReferenceOnly(pair, backbone, recipe.sampling)


def _train(unit: Unit, pair: Pair, spec: Spec, runtime: RuntimeOptions, listen: Listener) -> None:
    """Train the unit and write its cost, unless both exist; the cost may exist without the run."""
    if unit.cost.exists() and (unit.run / RUN_FILE).exists() and is_finished(unit.run):
        return
    backbone = load_backbone(spec.model, **runtime)
    recipe = make_recipe(backbone, unit.method, ["sampling.preview_every=0", *spec.settings_of(unit.method)])
    train(pair, output_folder(unit.run), backbone, recipe, listen=with_task(unit.name, listen))
    run = read_json(unit.run / RUN_FILE, "delete the folder and run the bench again")
    cost = {
        "steps": recipe.steps,
        "seconds": run["seconds"],
        "peak_gb": run.get("peak_gb"),
        "bytes": stored_bytes(unit.run),
    }
    write_json(unit.cost, {**cost, "of": _inputs(unit, pair, spec)})
    (unit.run / STATE_FILE).unlink(missing_ok=True)  # up to 140 MB that nothing reads any more


def _generate(unit: Unit, spec: Spec, prompt: str, run: Run | ReferenceOnly) -> None:
    """Generate a prompt's missing images, ``spec.batch`` seeds at a time.

    A batch with a missing image is generated as a whole, so that the bytes do not depend on interruptions.
    """
    all_seeds = unit.seeds(spec)
    for first in range(0, len(all_seeds), spec.batch):
        seeds = all_seeds[first : first + spec.batch]
        if all(unit.image(prompt, seed).exists() for seed in seeds):
            continue
        for item in run.generate(prompt, number=len(seeds), seed=seeds[0], batch=len(seeds)):
            path = unit.image(prompt, item.record.seed)
            if not path.exists():
                save_png(item.image, path, item.record.metadata())


def _read_images(unit: Unit, keys: Iterable[Key]) -> list[ScoredImage]:
    """Raises InputError for a damaged image."""
    images = []
    for prompt, seed in sorted(keys):
        path = unit.image(prompt, seed)
        try:
            with Image.open(path) as opened:
                images.append(ScoredImage(prompt, seed, opened.convert("RGB")))
        except (OSError, SyntaxError) as error:
            raise InputError(f"{path}: damaged ({error})", "delete it and run the bench again") from error
    return images


def _score_images(
    unit: Unit, name: str, scorer: Scorer, target: Target, images: Sequence[ScoredImage]
) -> Iterator[Row]:
    """The scorer's rows of a unit's images, at least one of each image."""
    left = {(image.prompt, image.seed) for image in images}
    for score in scorer.score(target, images):
        left.discard((score.prompt, score.seed))
        yield Row(unit.source.name, unit.method, score.prompt, score.seed, name, score.metric, score.value)
    for prompt, seed in left:
        yield Row(unit.source.name, unit.method, prompt, seed, name, "", float("nan"))


def _score(unit: Unit, name: str, scorer: Scorer, target: Target, keys: set[Key]) -> None:
    """Score the images ``keys``, and all images that this scorer scored before and that still exist.

    Other scorers' rows stay. So do this scorer's rows of deleted images, if its model is the same.
    """
    rows, models = read_unit(unit.results)
    same_model = models.get(name) == scorer.model
    before = {(r.prompt, r.seed) for r in rows if r.scorer == name and r.prompt}
    keys = keys | {key for key in before if unit.image(*key).exists()}
    kept = [r for r in rows if r.scorer != name or (same_model and r.prompt and (r.prompt, r.seed) not in keys)]
    new = _score_images(unit, name, scorer, target, _read_images(unit, keys))
    write_rows(unit.results, [*kept, *new], {**models, name: scorer.model})


def _run_unit(unit: Unit, spec: Spec, scorers: Mapping[str, Scorer], runtime: RuntimeOptions, listen: Listener) -> bool:
    """Train, generate and score what is missing of a unit; returns whether anything was."""
    pair = unit.source.read(unit.bench / "pairs")
    words = list(pair.words)
    missing = unit.missing(spec, words, scorers)
    if not missing:
        return False
    keys = unit.keys(spec, words)
    if not all(unit.image(prompt, seed).exists() for prompt, seed in keys):
        run, prompts = _generator(unit, pair, spec, runtime, listen), spec.texts(words)
        for number, prompt in enumerate(prompts):
            _generate(unit, spec, prompt, run)
            listen(Progress(f"{unit.name}, generating", number + 1, len(prompts)))
    target = Target(pair, words, unit.source.world, unit.bench / "features" / unit.name)
    for name in missing:
        _score(unit, name, scorers[name], target, keys)
    return True


def _run_unlocked(units: Sequence[Unit], run_unit: Callable[[Unit], bool], listen: Listener) -> int:
    """Run all units that no other worker has locked; returns the number of those that stay locked.

    Locked units are tried again after the others: the lock of a killed worker has expired by then.
    """
    waiting, progressed, done = list(units), True, 0
    while waiting and progressed:
        batch, waiting, progressed = waiting, [], False
        for unit in batch:
            listen(Progress("units", done, len(units)))
            with acquire(unit.lock) as acquired:
                progressed |= acquired and run_unit(unit)
            if acquired:
                done += 1
            else:
                waiting.append(unit)
    listen(Progress("units", done, len(units)))
    return len(waiting)


def run_bench(
    spec: Spec, sources: Sequence[Source], output: Path, listen: Listener = ignore, **runtime: Unpack[RuntimeOptions]
) -> int:
    """Run all units that no other worker runs; returns the number of units that are left to others.

    Any number of processes or machines may share ``output``. A killed worker loses at most the work since its last
    checkpoint, and another worker takes its unit after a minute. Scorers without their models are left out with a
    warning; a later call adds their scores.

    Raises:
        InputError: no scorer has its model, a pair cannot be read, settings do not fit a recipe, or the folder has a unit
            of another bench. Nothing has been trained.
        RunError: after all other units are done, if some units failed.
    """
    units, failed = make_units(spec, sources, output), set[str]()
    scorers, notes = load_scorers(spec_scorers(spec))
    for note in notes:
        listen(Notice(note, warning=True))
    _check_recipes(spec, runtime)
    for unit in units:
        _check_inputs(unit, unit.source.read(output / "pairs"), spec)

    def run_unit(unit: Unit) -> bool:
        try:
            return _run_unit(unit, spec, scorers, runtime, listen)
        except (InputError, RunError) as error:
            failed.add(unit.name)
            listen(Notice(f"{unit.name} is left out: {error}", warning=True))
            return False

    left = _run_unlocked(units, run_unit, listen)
    if failed:
        raise RunError(f"{len(failed)} of {len(units)} units failed, see above; the same command tries them again")
    return left


def bench_status(spec: Spec, sources: Sequence[Source], output: Path) -> dict[str, str]:
    """Each unit's state by name: done, at work, waiting, or the number of images to score."""
    states, scorers = {}, spec_scorers(spec)
    for unit in make_units(spec, sources, output):
        pair = unit.source.read(output / "pairs")
        missing = max(unit.missing(spec, list(pair.words), scorers).values(), default=0)
        state = "done" if not missing else f"{missing} to score" if unit.results.exists() else "waiting"
        states[unit.name] = "at work" if is_locked(unit.lock) else state
    return states
