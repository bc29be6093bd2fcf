"""Truth by the judge: identity, text, pollution, leakage and imbalance of pictures of the world."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np

from magictailor.common.files import digest
from magictailor.evaluate.metrics import identity
from magictailor.evaluate.metrics.asked import Asked, asked
from magictailor.evaluate.metrics.contract import Drawn, Figure, Subject
from magictailor.weights import JUDGE
from magictailor.world.judge import RECORD, Judge, load_judge
from magictailor.world.judgement import Judgement, judged
from magictailor.world.pairs import WorldPair, reference_scenes
from magictailor.world.render import render
from magictailor.world.scene import Concept, random_component, random_concept, same_place

UNRELATED = 2  # owners that pollution is measured against
SHOWN = ("category", "kind", "variant", "context", "identity", "color error", "mask overlap")
HIGHER = {
    "text": True, "identity": True, "found": True, "concept error": False, "component error": False, "pollution": False,
    "concept pollution": False, "component pollution": False, "place leakage": False, "extra leakage": False,
    "imbalance": False, "features": False,
}  # fmt: skip
Scores = dict[str, float | None]


@cache
def judge_network() -> Judge:
    return load_judge()


@cache
def judge_name() -> str:
    return f"the world's judge, {digest(JUDGE)[:12] if JUDGE.is_file() else 'not installed'}"


def accuracy_line() -> str:
    """How good the shipped judge is on held-out renders by day without treatments, on the same through the autoencoder, and
    at night or under treatments."""
    scores = json.loads(RECORD.read_text("utf-8"))["held out"]
    names = {"renders": "by day", "autoencoder": "through the autoencoder", "filtered": "night and treatments"}
    kinds = [kind for kind in names if kind in scores]
    shown = ", ".join(f"{name} {' / '.join(f'{scores[kind][name]:.3f}' for kind in kinds)}" for name in SHOWN)
    pictures = f"{scores['renders']['pictures']:.0f} and {scores['filtered']['pictures']:.0f}"
    conditions = " / ".join(names[kind] for kind in kinds)
    return f"the judge's own scores on {pictures} held-out renders ({conditions}): {shown}"


def unrelated_owner(pair: WorldPair, number: int) -> Concept:
    """Another owner of the same category, with a component of the same kind; it shares nothing with the pair but by chance."""
    rng, component = np.random.default_rng((pair.seed, 8, number)), pair.component
    taken = [component, *(c for c in pair.concept.components if same_place(c, component))]
    variants = tuple(v for v in component.spec.trained if v not in {c.variant for c in taken})
    colors = [c.color.name for c in taken if c.color is not None]
    owner = random_concept(rng, pair.owner.category, (pair.concept.color.name, pair.owner.color.name))
    return owner.wearing(random_component(rng, component.category, component.kind, colors, variants))


@dataclass(frozen=True)
class Truths:
    """What the judge reads in true pictures, made as the prompt asks: of what is asked for (``asked``), of the concept with
    its own component, of the owner, and of unrelated owners."""

    asked: Judgement
    concept: Judgement
    owner: Judgement
    unrelated: tuple[Judgement, ...]


@lru_cache(maxsize=128)
def truths_of(pair: WorldPair, request: Asked) -> Truths:
    others = [unrelated_owner(pair, number) for number in range(UNRELATED)]
    subjects = (request.subject(pair), pair.concept, pair.owner, *others)
    first, second, third, *rest = judged(
        judge_network(), [render(request.scene(pair, subject)).image for subject in subjects]
    )
    return Truths(first, second, third, tuple(rest))


@lru_cache(maxsize=128)
def owner_place(pair: WorldPair) -> str | None:
    """The context of the owner's photos, if it is one."""
    places = {scene.context for scene in reference_scenes(pair)[1]}
    return places.pop() if len(places) == 1 else None


@dataclass(frozen=True)
class TruthByJudge:
    """On pairs of the world, whatever the prompt."""

    higher: dict[str, bool] = field(default_factory=lambda: dict(HIGHER))

    @property
    def model(self) -> str:
        return judge_name()

    def prepare(self) -> None:
        judge_network()

    def score(self, subject: Subject, pictures: Sequence[Drawn]) -> Iterator[Figure]:
        pair = subject.world
        if pair is None:
            return
        for drawn, judgement in zip(pictures, judged(judge_network(), [d.image for d in pictures]), strict=True):
            request = asked(drawn.prompt, subject.words)
            if request is None or not (request.concept or request.component):
                continue
            for name, value in scores(pair, request, judgement, truths_of(pair, request)).items():
                yield Figure(drawn.prompt, drawn.seed, name, value)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _concept_side(pair: WorldPair, request: Asked, seen: Judgement, truths: Truths) -> tuple[Scores, float]:
    """Scores of the concept, and the error that an unrelated one would have."""
    category = pair.concept.category
    kept = identity.other_cells(pair.concept, pair.component) if request.both else tuple(
        (c.category, c.kind) for c in pair.concept.components
    )  # fmt: skip
    cells = tuple(cell for cell in kept if cell in truths.asked.components)
    error = identity.concept_error(seen, truths.asked, category, cells)
    chance = [identity.concept_error(other, truths.asked, category, cells) for other in truths.unrelated]
    found: Scores = {"concept found": float(category in seen.concepts), "concept error": error}
    if request.both:
        moved = []
        for number, other in enumerate(truths.unrelated):
            concepts = (pair.concept, pair.owner, unrelated_owner(pair, number))
            every = dict.fromkeys(cell for c in concepts for cell in identity.other_cells(c, pair.component))
            moved.append(identity.concept_pollution(seen, truths.asked, truths.owner, other, category, tuple(every)))
        found["concept pollution"] = _mean(moved)
        found["extra leakage"] = identity.extra_leakage(seen, truths.asked, pair)
    return found, float(np.mean(chance))


def _component_side(pair: WorldPair, request: Asked, seen: Judgement, truths: Truths) -> tuple[Scores, float]:
    """Scores of the component, and the error that the concept's own or an unrelated one would have."""
    cell = (pair.component.category, pair.kind)
    true, component = truths.asked.components.get(cell), seen.component(pair.kind)
    if true is None:  # the judge does not see it in the true picture either
        return {}, 1.0
    own, others = truths.concept.components.get(cell), [u.components.get(cell) for u in truths.unrelated]
    moved = [identity.component_pollution(component, true, own, other) for other in others] if request.both else []
    instead = [own] if own is not None else [other for other in others if other is not None]
    chance = [identity.component_error(other, true) for other in instead]
    found = {
        "component found": float(component is not None),
        "component error": identity.component_error(component, true),
    }
    return {**found, "component pollution": _mean(moved)}, float(np.mean(chance or [1.0]))


def scores(pair: WorldPair, request: Asked, seen: Judgement, truths: Truths) -> dict[str, float]:
    """Of one picture; what does not apply is left out.

    ``identity`` is 1 minus the mean of the two errors, ``pollution`` the mean of its two sides, ``found`` the share of what is
    asked for that is there.
    """
    values: Scores = {"features": 1 - float(seen.features @ truths.asked.features)}
    values["text"] = text_score(request, seen) if request.clauses else None
    chance = {}
    if request.concept and pair.concept.category in truths.asked.concepts:
        side, chance["concept"] = _concept_side(pair, request, seen, truths)
        values |= side
    if request.component:
        side, chance["component"] = _component_side(pair, request, seen, truths)
        values |= side
    found = [values.pop(f"{side} found", None) for side in ("concept", "component")]
    errors = [values.get(f"{side} error") for side in ("concept", "component")]
    error = _mean(errors)
    values |= {"found": _mean(found), "identity": None if error is None else 1 - error}
    values["pollution"] = _mean([values.get("concept pollution"), values.get("component pollution")])
    place = owner_place(pair)
    if place is not None and request.component:
        values["place leakage"] = identity.place_leakage(seen, request.context, place)
    first, second = errors
    if first is not None and second is not None and any(found):
        values["imbalance"] = identity.imbalance([first, second], [chance["concept"], chance["component"]])
    return {name: value for name, value in values.items() if value is not None}


def text_score(request: Asked, seen: Judgement) -> float:
    """The share of the prompt's clauses that the judge sees."""
    clauses = (seen.context, seen.treatment, seen.view)
    return float(np.mean([clause in clauses for clause in request.clauses]))
