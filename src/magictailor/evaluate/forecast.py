"""What a bench is expected to take, from what units took: in this bench, or as measured for the embedded base."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from magictailor.evaluate.anchor_names import ANCHORS, RENDERED
from magictailor.evaluate.costs import Cost, read_cost
from magictailor.evaluate.spec import Spec
from magictailor.evaluate.trials import Trial
from magictailor.evaluate.work import is_trained

MEASURED = Path(__file__).with_name("unit_seconds.json")  # by benchmarks/bench_units.py


@dataclass(frozen=True)
class UnitSeconds:
    """Seconds of a training by method, of generating an image, and of scoring one.

    ``source``: where they were measured.
    """

    train: Mapping[str, float] = field(default_factory=dict)
    image: float | None = None
    score: float | None = None
    source: str = ""

    def training(self, method: str) -> float | None:
        """The method's own, or the median of all that are known."""
        if not is_trained(method):
            return 0.0
        return self.train.get(method, median(self.train.values()) if self.train else None)


def _mean(seconds: float, images: int) -> float | None:
    return seconds / images if images else None


def seconds_of(costs: Iterable[tuple[str, Cost]], source: str) -> UnitSeconds:
    """From the costs of finished trials, with their methods."""
    found = list(costs)
    by_method: dict[str, list[float]] = {}
    for method, cost in found:
        if cost.steps:
            by_method.setdefault(method, []).append(cost.seconds)
    drawn = [cost for method, cost in found if method not in RENDERED]
    image = _mean(sum(c.generated.seconds for c in drawn), sum(c.generated.images for c in drawn))
    score = _mean(sum(c.scored.seconds for _, c in found), sum(c.scored.images for _, c in found))
    return UnitSeconds({m: sum(v) / len(v) for m, v in by_method.items()}, image, score, source)


def known_seconds(home: Path, trials: Sequence[Trial], model: str) -> UnitSeconds:
    """Of this bench; what it does not know yet, for the embedded base as measured."""
    costs = ((trial.method, cost) for trial in trials if (cost := read_cost(home / trial.cost)) is not None)
    own = seconds_of(costs, "this bench")
    tree = json.loads(MEASURED.read_text("utf-8")).get(model, {})
    if not tree:
        return own
    sources = [own.source] if own.train else []
    return UnitSeconds(
        {**tree["train"], **own.train},
        own.image if own.image is not None else tree["image"],
        own.score if own.score is not None else tree["score"],
        " and ".join([*sources, tree["source"]]),
    )


@dataclass(frozen=True)
class Forecast:
    """``seconds``: of one worker, by kind of unit; None: nothing of it has been measured."""

    trials: int
    images: int
    seconds: Mapping[str, float | None]
    source: str

    @property
    def total(self) -> float | None:
        known = [value for value in self.seconds.values() if value is not None]
        return sum(known) if len(known) == len(self.seconds) else None


def forecast(spec: Spec, missing: Sequence[Trial], units: UnitSeconds) -> Forecast:
    """Of the trials that are not finished; those that are begun count as whole. Prompts are counted as the spec has them,
    for a pair of one component."""
    prompts = len(spec.texts(("<a>", "<b>")))
    images = {trial.name: prompts * len(trial.seeds(spec)) for trial in missing}
    made = sum(images[trial.name] for trial in missing if trial.method not in RENDERED)
    trainings = [units.training(trial.method) for trial in missing if trial.trained_as is None]
    total = sum(images.values())
    return Forecast(
        len(missing),
        total,
        {
            "train": None if None in trainings else sum(value or 0.0 for value in trainings),
            "generate": None if units.image is None and made else made * (units.image or 0.0),
            "score": None if units.score is None and total else total * (units.score or 0.0),
        },
        units.source,
    )


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"


def forecast_lines(spec: Spec, trials: Sequence[Trial], found: Forecast, workers: int) -> Iterator[str]:
    """In words."""
    pairs = len({trial.source.name for trial in trials})
    methods = len({trial.method for trial in trials if trial.method not in ANCHORS})
    anchors = len({trial.method for trial in trials if trial.method in ANCHORS})
    repeated = f", {spec.training_seeds} training seeds" if spec.training_seeds > 1 else ""
    yield f"{pairs} pairs x {methods} methods and {anchors} anchors{repeated}: {len(trials)} trials, {found.trials} not finished, with {found.images:,} images"  # fmt: skip
    if spec.primary is not None:
        yield f"primary endpoint: {spec.primary}"
    if found.total is None:
        yield "no unit of this model has been measured: run it on one pair first, and ask again"
        return
    parts = ", ".join(f"{kind} {hours(value or 0.0)}" for kind, value in found.seconds.items())
    yield f"expected for one worker: {hours(found.total)} ({parts}), from units of {found.source}"
    if workers > 1:
        yield f"for {workers} workers: {hours(found.total / workers)}, if they do not slow each other down"
