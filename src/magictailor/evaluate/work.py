"""What each kind of unit does: train, generate, score. Finished work is never done again."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch

from magictailor.api import Run, load
from magictailor.backbones import Backbone, RuntimeOptions, load_backbone
from magictailor.common.errors import InputError, RunError
from magictailor.common.events import Listener, Progress, with_task
from magictailor.common.files import output_folder
from magictailor.common.locks import only_process
from magictailor.common.pictures import save_png
from magictailor.common.records import read_json
from magictailor.data import Pair
from magictailor.evaluate.anchor_names import ANCHORS
from magictailor.evaluate.anchors import Anchor
from magictailor.evaluate.costs import Cost, images_seen, read_cost, recipe_line, write_cost
from magictailor.evaluate.images import read_image
from magictailor.evaluate.metrics import load_scorers, make_scorers
from magictailor.evaluate.metrics.scorer import ScoredImage, Scorer, Target
from magictailor.evaluate.records import Key, Row, read_summary, read_trial, write_rows
from magictailor.evaluate.spec import Spec
from magictailor.evaluate.stores import Store
from magictailor.evaluate.trials import Kind, Trial, Unit
from magictailor.generation.images import Generated
from magictailor.generation.reference_only import ReferenceOnly
from magictailor.methods import REFERENCE_ONLY
from magictailor.recipe import Recipe
from magictailor.training.run_folder import RUN_FILE, STATE_FILE, describe_pair, is_finished, stored_bytes
from magictailor.training.train import make_recipe, train
from magictailor.weights import BASES

OF_IMAGES = ("steps", "guidance", "emphasis")  # sampling that only images depend on
OF_GENERATING = ("data.size=", "sampling.")  # settings that also hold where nothing is trained


class Generator(Protocol):
    """A finished run, or what stands for one."""

    def generate(self, prompt: str, *, number: int, seed: int, batch: int) -> Iterator[Generated]: ...


@dataclass(frozen=True)
class _Sampled:
    """A run whose images are generated with other settings than its recipe's."""

    run: Run
    options: Mapping[str, Any]

    def generate(self, prompt: str, **more: Any) -> Iterator[Generated]:
        return self.run.generate(prompt, **self.options, **more)


def spec_scorers(spec: Spec) -> dict[str, Scorer]:
    """The spec's scorers by name, not loaded. Raises InputError for an unknown name."""
    segmenter = spec.segmenter or ("embedded" if spec.model in BASES else "dino+sam")
    return make_scorers(spec.metrics, spec.weights, segmenter)


@lru_cache(maxsize=1)
def loaded_scorers(spec_json: str) -> dict[str, Scorer]:
    """Of this process: their models are loaded once for all units."""
    return load_scorers(spec_scorers(Spec.model_validate_json(spec_json)))[0]


def is_trained(method: str) -> bool:
    return method not in ANCHORS and method != REFERENCE_ONLY


def trial_recipe(backbone: Backbone, trial: Trial, spec: Spec) -> Recipe:
    """The recipe of the trial's training; where nothing is trained, only its size and sampling hold."""
    settings = spec.settings_of(trial.method, trial.training_seed)
    if is_trained(trial.method):
        return make_recipe(backbone, spec.method_of(trial.method), ["sampling.preview_every=0", *settings])
    return make_recipe(backbone, settings=[text for text in settings if text.startswith(OF_GENERATING)])


def same_trainings(recipes: Mapping[str, Recipe]) -> dict[str, str]:
    """For each recipe that differs from an earlier one in nothing but how it generates, the earlier one's name."""
    first: dict[Recipe, str] = {}
    same: dict[str, str] = {}
    for name, recipe in recipes.items():
        sampling = recipe.sampling.model_copy(update=dict.fromkeys(OF_IMAGES, 0))
        other = first.setdefault(recipe.model_copy(update={"method": "", "sampling": sampling}), name)
        if other != name:
            same[name] = other
    return same


def inputs_of(trial: Trial, spec: Spec, base: str) -> dict[str, object]:
    """What a trial's results depend on, besides its method and its pair. ``base``: the model's digest."""
    return {"model": spec.model, "base": base, "settings": spec.settings_of(trial.method, trial.training_seed)}


def _check_pair(cost: Cost | None, trial: Trial, pair: Pair) -> None:
    """Raises InputError if the trial's existing results are of other photos."""
    if cost is not None and cost.of.get("pair") != describe_pair(pair):
        problem = f"{trial.name} was made with other photos"
        raise InputError(problem, "rename the pair, or choose another folder", field="output")


def _has_images(home: Path, trial: Trial, keys: Iterable[Key]) -> bool:
    return all((home / trial.image(prompt, seed)).exists() for prompt, seed in keys)


def _train(home: Path, trial: Trial, pair: Pair, spec: Spec, runtime: RuntimeOptions, listen: Listener) -> None:
    """Train and write the cost, unless both are there; the cost may be there without the run, and so may another trial's run."""
    cost, run = read_cost(home / trial.cost), home / trial.run
    _check_pair(cost, trial, pair)
    if _has_images(home, trial, trial.keys(spec, list(pair.words))) and cost is not None:
        return
    if is_trained(trial.method) and cost is not None and (run / RUN_FILE).exists() and is_finished(run):
        return
    backbone = load_backbone(spec.model, **runtime)
    inputs = {**inputs_of(trial, spec, backbone.digest()), "pair": describe_pair(pair)}
    found = cost or Cost(of=inputs)
    if is_trained(trial.method):
        recipe, trained = trial_recipe(backbone, trial, spec), trial_recipe(backbone, trial.training, spec)
        with only_process(run, wait=True):  # a killed driver's worker may live for another moment
            pass
        train(pair, output_folder(run), backbone, trained, listen=with_task(trial.name, listen))
        found = found.model_copy(
            update={
                "steps": recipe.steps,
                "bytes": stored_bytes(run),
                "images_seen": images_seen(recipe, pair),
                "recipe": recipe_line(recipe),
                "of": inputs,
                **_of_run(run),
            }
        )
    write_cost(home / trial.cost, found.model_copy(update={"threads": torch.get_num_threads()}))
    (run / STATE_FILE).unlink(missing_ok=True)  # up to 140 MB that nothing reads any more


def _of_run(run: Path) -> dict[str, object]:
    """Seconds and memory that the run's folder records."""
    tree = read_json(run / RUN_FILE, "delete the folder and run the bench again")
    return {"seconds": float(tree["seconds"]), "peak_gb": tree.get("peak_gb")}


def _generator(home: Path, trial: Trial, pair: Pair, spec: Spec, runtime: RuntimeOptions) -> Generator:
    if is_trained(trial.method):
        run = load(home / trial.run, **runtime)
        if trial.trained_as is None:
            return run
        sampling = trial_recipe(run.backbone, trial, spec).sampling
        return _Sampled(run, {name: getattr(sampling, name) for name in OF_IMAGES})
    backbone = load_backbone(spec.model, **runtime)
    recipe = trial_recipe(backbone, trial, spec)
    if recipe.data.size is not None:
        backbone.use_size(recipe.data.size)
    if trial.method == REFERENCE_ONLY:
        return ReferenceOnly(pair, backbone, recipe.sampling)
    assert trial.source.world is not None
    return Anchor(trial.method, trial.source.world, backbone, recipe.sampling)


def _batches(seeds: range, size: int) -> Iterator[range]:
    return (seeds[first : first + size] for first in range(0, len(seeds), size))


def _generate(home: Path, trial: Trial, pair: Pair, spec: Spec, runtime: RuntimeOptions, listen: Listener) -> None:
    """Generate the missing images, ``spec.batch`` seeds of a prompt at a time.

    A batch with a missing image is generated as a whole, so that the bytes do not depend on interruptions.
    """
    keys = trial.keys(spec, list(pair.words))
    if _has_images(home, trial, keys):
        return
    began, made = time.monotonic(), 0
    generator = _generator(home, trial, pair, spec, runtime)
    prompts = [text for text in spec.texts(list(pair.words)) if (text, trial.seeds(spec)[0]) in keys]
    for number, prompt in enumerate(prompts):
        for seeds in _batches(trial.seeds(spec), spec.batch):
            if _has_images(home, trial, ((prompt, seed) for seed in seeds)):
                continue
            for item in generator.generate(prompt, number=len(seeds), seed=seeds[0], batch=len(seeds)):
                path = home / trial.image(prompt, item.record.seed)
                made += 1
                if not path.exists():
                    save_png(item.image, path, item.record.metadata())
        listen(Progress(f"{trial.name}, generating", number + 1, len(prompts)))
    cost = read_cost(home / trial.cost) or Cost()
    seconds = time.monotonic() - began
    write_cost(home / trial.cost, cost.model_copy(update={"generated": cost.generated.plus(made, seconds)}))


def read_images(home: Path, trial: Trial, keys: Iterable[Key]) -> list[ScoredImage]:
    """Raises InputError for a damaged image."""
    images = []
    for prompt, seed in sorted(keys):
        images.append(ScoredImage(prompt, seed, read_image(home / trial.image(prompt, seed))))
    return images


def scored_rows(
    trial: Trial, name: str, scorer: Scorer, target: Target, images: Sequence[ScoredImage]
) -> Iterator[Row]:
    """The scorer's rows of a trial's images, at least one of each image.

    Raises RunError for a value that is not a number: tables cannot hold it.
    """
    left = {(image.prompt, image.seed) for image in images}
    of = (trial.source.name, trial.method)
    for score in scorer.score(target, images) if images else ():
        left.discard((score.prompt, score.seed))
        if not math.isfinite(score.value):
            raise RunError(f"{score.metric} of {score.prompt!r}, seed {score.seed}, is {score.value}")
        yield Row(*of, score.prompt, score.seed, name, score.metric, score.value, trial.training_seed)
    for prompt, seed in left:
        yield Row(*of, prompt, seed, name, "", float("nan"), trial.training_seed)


def _score_all(home: Path, trial: Trial, name: str, scorer: Scorer, target: Target, keys: set[Key]) -> int:
    """Score the images ``keys``, and all images that this scorer scored before and that still exist; their number.

    Other scorers' rows stay. So do this scorer's rows of deleted images, if its model is the same.
    """
    rows, models = read_trial(home / trial.results)
    same_model = models.get(name) == scorer.model
    before = {(r.prompt, r.seed) for r in rows if r.scorer == name and r.prompt}
    keys = keys | {key for key in before if (home / trial.image(*key)).exists()}
    kept = [r for r in rows if r.scorer != name or (same_model and r.prompt and (r.prompt, r.seed) not in keys)]
    new = scored_rows(trial, name, scorer, target, read_images(home, trial, keys))
    write_rows(home / trial.results, [*kept, *new], {**models, name: scorer.model}, target.words)
    return len(keys)


def _score(home: Path, trial: Trial, pair: Pair, spec: Spec, runtime: RuntimeOptions, listen: Listener) -> None:
    """Score what is missing. Scorers without their models are left out."""
    began, images, keys = time.monotonic(), 0, trial.keys(spec, list(pair.words))
    target = Target(pair, list(pair.words), trial.source.world, home / trial.features)
    for name, scorer in loaded_scorers(spec.model_dump_json()).items():
        summary = read_summary(home / trial.results)
        if name not in summary.models or summary.missing(name, scorer.model, keys):
            images = max(images, _score_all(home, trial, name, scorer, target, keys))
    cost = read_cost(home / trial.cost)
    if images and cost is not None:
        seconds = time.monotonic() - began
        write_cost(home / trial.cost, cost.model_copy(update={"scored": cost.scored.plus(images, seconds)}))


WORK: dict[Kind, Callable[[Path, Trial, Pair, Spec, RuntimeOptions, Listener], None]] = {
    "train": _train,
    "generate": _generate,
    "score": _score,
}


def run_unit(
    unit: Unit, spec: Spec, store: Store, runtime: RuntimeOptions, threads: int | None, listen: Listener
) -> None:
    """Do one unit. The same unit gives the same bytes on every worker with this number of threads of the CPU.

    Raises:
        InputError, RunError: it cannot be done.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    with store.workspace(unit.inputs) as home:
        WORK[unit.kind](home, unit.trial, unit.trial.source.read(home / "pairs"), spec, runtime, listen)
