"""Truth by the judge: identity, text, pollution and imbalance of pictures of the world."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from magictailor.evaluate.metrics.asked import Asked, asked
from magictailor.evaluate.metrics.contract import Drawn, Figure, Subject
from magictailor.evaluate.metrics.identity import imbalance, pollution, thing_error
from magictailor.files import digest
from magictailor.world.judge import RECORD, WEIGHTS, Judge, load_judge
from magictailor.world.judgement import Judgement, judged
from magictailor.world.labels import named
from magictailor.world.pairs import WorldPair
from magictailor.world.render import render

SHOWN = ("category", "style", "context", "pattern", "color error", "mask overlap")
HIGHER = {
    "text": True, "identity": True, "found": True, "concept error": False, "component error": False, "pollution": False,
    "imbalance": False, "features": False,
}  # fmt: skip


@cache
def judge_network() -> Judge:
    return load_judge()


@cache
def judge_name() -> str:
    return f"the world's judge, {digest(WEIGHTS)[:12]}"


def accuracy_line() -> str:
    """How good the shipped judge is on held-out renders by day without filters, the same through the autoencoder, and filtered ones."""
    scores = json.loads(RECORD.read_text("utf-8"))["held out"]
    kinds = ("renders", "autoencoder", "filtered")
    shown = ", ".join(f"{name} {' / '.join(f'{scores[kind][name]:.3f}' for kind in kinds)}" for name in SHOWN)
    pictures = f"{scores['renders']['pictures']:.0f} and {scores['filtered']['pictures']:.0f}"
    return f"the judge's own figures on {pictures} held-out renders (by day / through the autoencoder / night and filters): {shown}"


@dataclass(frozen=True)
class _Truths:
    """What the judge reads in the pair's own true pictures, made as the prompt asks."""

    composite: Judgement
    concept: Judgement
    owner: Judgement
    component: Judgement


@dataclass(frozen=True)
class TruthByJudge:
    """On pairs of the world, whatever the prompt."""

    higher: dict[str, bool] = field(default_factory=lambda: dict(HIGHER))

    @property
    def model(self) -> str:
        return judge_name()

    def _truths(self, pair: WorldPair, what: Asked) -> _Truths:
        things = (pair.composite, pair.concept, pair.owner, pair.component)
        return _Truths(*judged(judge_network(), [render(what.scene(pair, thing)).image for thing in things]))

    def prepare(self) -> None:
        judge_network()

    def score(self, subject: Subject, pictures: Sequence[Drawn]) -> Iterator[Figure]:
        pair = subject.world
        if pair is None:
            return
        truths: dict[Asked, _Truths] = {}
        for drawn, told in zip(pictures, judged(judge_network(), [d.image for d in pictures]), strict=True):
            what = asked(drawn.prompt, subject.words)
            if what is None or not (what.concept or what.component):
                continue
            if what not in truths:
                truths[what] = self._truths(pair, what)
            for name, value in figures(pair, what, told, truths[what]).items():
                yield Figure(drawn.prompt, drawn.seed, name, value)


def figures(pair: WorldPair, what: Asked, told: Judgement, truths: _Truths) -> dict[str, float]:
    """Of one picture; what does not apply is not there."""
    scores = {"text": text_score(what, told)} if what.clauses else {}
    category, kind = pair.labels
    truth = truths.composite if what.both else truths.concept if what.concept else truths.component
    scores["features"] = 1 - float(told.features @ truth.features)
    found: list[float] = []
    errors: dict[str, float] = {}
    moved: list[float | None] = []
    if what.concept and category in truth.things:
        seen, true = told.things.get(category), truth.things[category]
        found.append(float(seen is not None))
        errors["concept error"] = thing_error(seen, true, pair.concept, told.category == truth.category)
        moved.append(pollution(seen, true, truths.owner.things.get(category)))
    if what.component and kind in truth.things:
        seen, true = told.things.get(kind), truth.things[kind]
        found.append(float(seen is not None))
        alike = true.name != named(pair.component) or (seen is not None and seen.name == true.name)
        errors["component error"] = thing_error(seen, true, pair.component, alike)
        moved.append(pollution(seen, true, truths.concept.things.get(kind)))
    known = [value for value in moved if value is not None]
    if known:
        scores["pollution"] = float(np.mean(known))
    if errors:
        scores["found"] = float(np.mean(found))
        scores["identity"] = 1 - float(np.mean(list(errors.values())))
    if len(errors) == 2 and any(found):
        scores["imbalance"] = imbalance(list(errors.values()))
    return {**scores, **errors}


def text_score(what: Asked, told: Judgement) -> float:
    """The share of the prompt's clauses that the judge sees."""
    said = (told.place, told.filter, told.distance)
    return float(np.mean([clause in said for clause in what.clauses]))
