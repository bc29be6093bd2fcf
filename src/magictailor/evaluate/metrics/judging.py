"""Metrics from the world's judge: identity, text, pollution, leakage and imbalance of images of the world."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np

from magictailor.common.files import digest
from magictailor.evaluate.metrics import identity
from magictailor.evaluate.metrics.prompts import ParsedPrompt, parse_prompt
from magictailor.evaluate.metrics.scorer import Score, ScoredImage, Target
from magictailor.weights import JUDGE
from magictailor.world.judge import RECORD, Judge, load_judge
from magictailor.world.judgement import VERSION, Judgement, judged
from magictailor.world.pairs import WorldPair, reference_scenes
from magictailor.world.render import render
from magictailor.world.scene import Concept, random_component, random_concept, same_place

UNRELATED = 2  # number of owners that pollution is compared with
ACCURACIES = ("category", "kind", "variant", "context", "identity", "color error", "mask overlap")
HIGHER_IS_BETTER = {
    "text": True, "identity": True, "found": True, "concept error": False, "component error": False, "pollution": False,
    "concept pollution": False, "component pollution": False, "place leakage": False, "extra leakage": False,
    "imbalance": False, "features": False,
}  # fmt: skip
Values = dict[str, float | None]


@cache
def judge_network() -> Judge:
    return load_judge()


@cache
def judge_name() -> str:
    return f"the world's judge {VERSION}, {digest(JUDGE)[:12] if JUDGE.is_file() else 'not installed'}"


def accuracy_line() -> str:
    """The shipped judge's accuracy on held-out renders: by day without treatments, the same through the autoencoder, and at
    night or with treatments."""
    scores = json.loads(RECORD.read_text("utf-8"))["held out"]
    names = {"renders": "by day", "autoencoder": "through the autoencoder", "filtered": "night and treatments"}
    kinds = [kind for kind in names if kind in scores]
    accuracies = ", ".join(f"{name} {' / '.join(f'{scores[kind][name]:.3f}' for kind in kinds)}" for name in ACCURACIES)
    counts = f"{scores['renders']['pictures']:.0f} and {scores['filtered']['pictures']:.0f}"
    conditions = " / ".join(names[kind] for kind in kinds)
    return f"the judge's own scores on {counts} held-out renders ({conditions}): {accuracies}"


def unrelated_owner(pair: WorldPair, number: int) -> Concept:
    """An owner of the same category with a component of the same kind, which shares features with the pair only by chance."""
    rng, component = np.random.default_rng((pair.seed, 8, number)), pair.component
    taken = [component, *(c for c in pair.concept.components if same_place(c, component))]
    variants = tuple(v for v in component.spec.trained if v not in {c.variant for c in taken})
    colors = [c.color.name for c in taken if c.color is not None]
    owner = random_concept(rng, pair.owner.category, (pair.concept.color.name, pair.owner.color.name))
    return owner.wearing(random_component(rng, component.category, component.kind, colors, variants))


@dataclass(frozen=True)
class Truths:
    """The judge's readings of true images of one prompt: of the requested subject, of the concept with its own component,
    of the owner, and of unrelated owners."""

    requested: Judgement
    concept: Judgement
    owner: Judgement
    unrelated: tuple[Judgement, ...]


@lru_cache(maxsize=128)
def read_truths(network: Judge, pair: WorldPair, parsed: ParsedPrompt) -> Truths:
    others = [unrelated_owner(pair, number) for number in range(UNRELATED)]
    subjects = (parsed.subject(pair), pair.concept, pair.owner, *others)
    first, second, third, *rest = judged(network, [render(parsed.scene(pair, subject)).image for subject in subjects])
    return Truths(first, second, third, tuple(rest))


@lru_cache(maxsize=128)
def owner_context(pair: WorldPair) -> str | None:
    """The context of the owner's photos; None if they have several."""
    contexts = {scene.context for scene in reference_scenes(pair)[1]}
    return contexts.pop() if len(contexts) == 1 else None


@dataclass(frozen=True)
class JudgeScorer:
    """Scores images of pairs of the world; prompts whose true image cannot be rendered are left out."""

    higher_is_better: dict[str, bool] = field(default_factory=lambda: dict(HIGHER_IS_BETTER))

    @property
    def model(self) -> str:
        return judge_name()

    def prepare(self) -> None:
        judge_network()

    def score(self, target: Target, images: Sequence[ScoredImage]) -> Iterator[Score]:
        pair = target.world
        if pair is None:
            return
        network = judge_network()
        for scored, judgement in zip(images, judged(network, [i.image for i in images]), strict=True):
            parsed = parse_prompt(scored.prompt, target.words)
            if parsed is None or not (parsed.concept or parsed.component):
                continue
            for metric, value in metric_values(pair, parsed, judgement, read_truths(network, pair, parsed)).items():
                yield Score(scored.prompt, scored.seed, metric, value)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _concept_values(pair: WorldPair, parsed: ParsedPrompt, seen: Judgement, truths: Truths) -> tuple[Values, float]:
    """The concept's metrics, and the error of an unrelated concept."""
    category = pair.concept.category
    kept = identity.other_cells(pair.concept, pair.component) if parsed.both else tuple(
        (c.category, c.kind) for c in pair.concept.components
    )  # fmt: skip
    cells = tuple(cell for cell in kept if cell in truths.requested.components)
    error = identity.concept_error(seen, truths.requested, category, cells)
    chance = [identity.concept_error(other, truths.requested, category, cells) for other in truths.unrelated]
    values: Values = {"concept found": float(category in seen.concepts), "concept error": error}
    if parsed.both:
        shifts = []
        for number, other in enumerate(truths.unrelated):
            concepts = (pair.concept, pair.owner, unrelated_owner(pair, number))
            every = dict.fromkeys(cell for c in concepts for cell in identity.other_cells(c, pair.component))
            shifts.append(
                identity.concept_pollution(seen, truths.requested, truths.owner, other, category, tuple(every))
            )
        values["concept pollution"] = _mean(shifts)
        values["extra leakage"] = identity.extra_leakage(seen, truths.requested, pair)
    return values, float(np.mean(chance))


def _component_values(pair: WorldPair, parsed: ParsedPrompt, seen: Judgement, truths: Truths) -> tuple[Values, float]:
    """The component's metrics, and the error of the concept's own component or, without one, of an unrelated one."""
    cell = (pair.component.category, pair.kind)
    true, component = truths.requested.components.get(cell), seen.component(pair.kind)
    if true is None:  # the judge does not find it in the true image either
        return {}, 1.0
    own, others = truths.concept.components.get(cell), [u.components.get(cell) for u in truths.unrelated]
    shifts = [identity.component_pollution(component, true, own, other) for other in others] if parsed.both else []
    baselines = [own] if own is not None else [other for other in others if other is not None]
    chance = [identity.component_error(other, true) for other in baselines]
    values = {
        "component found": float(component is not None),
        "component error": identity.component_error(component, true),
    }
    return {**values, "component pollution": _mean(shifts)}, float(np.mean(chance or [1.0]))


def metric_values(pair: WorldPair, parsed: ParsedPrompt, seen: Judgement, truths: Truths) -> dict[str, float]:
    """The metrics of one image; those that do not apply are left out.

    ``identity`` is 1 minus the mean of the two errors, ``pollution`` the mean of the concept's and the component's,
    ``found`` the share of requested subjects that are found.
    """
    values: Values = {"features": 1 - float(seen.features @ truths.requested.features)}
    values["text"] = text_score(parsed, seen) if parsed.clauses else None
    chance = {}
    if parsed.concept and pair.concept.category in truths.requested.concepts:
        concept, chance["concept"] = _concept_values(pair, parsed, seen, truths)
        values |= concept
    if parsed.component:
        component, chance["component"] = _component_values(pair, parsed, seen, truths)
        values |= component
    found = [values.pop(f"{subject} found", None) for subject in ("concept", "component")]
    errors = [values.get(f"{subject} error") for subject in ("concept", "component")]
    error = _mean(errors)
    values |= {"found": _mean(found), "identity": None if error is None else 1 - error}
    values["pollution"] = _mean([values.get("concept pollution"), values.get("component pollution")])
    context = owner_context(pair)
    if context is not None and parsed.component:
        values["place leakage"] = identity.place_leakage(seen, parsed.context, context)
    first, second = errors
    if first is not None and second is not None and any(found):
        values["imbalance"] = identity.imbalance([first, second], [chance["concept"], chance["component"]])
    return {metric: value for metric, value in values.items() if value is not None}


def text_score(parsed: ParsedPrompt, seen: Judgement) -> float:
    """The share of the prompt's clauses that the judge reads in the image."""
    clauses = (seen.context, seen.treatment, seen.view)
    return float(np.mean([clause in clauses for clause in parsed.clauses]))
