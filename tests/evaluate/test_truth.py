"""Metrics on pairs of the world: errors, pollution, leakage and imbalance, from the readings of a perfect judge."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import magictailor.evaluate.metrics.judging as judging
from magictailor.data import Pair
from magictailor.evaluate.metrics.identity import (
    belief_error,
    color_error,
    component_error,
    components_error,
    imbalance,
    other_cells,
    relative_shift,
)
from magictailor.evaluate.metrics.judging import JudgeScorer, Truths, metric_values, owner_context, unrelated_owner
from magictailor.evaluate.metrics.prompts import ParsedPrompt, parse_prompt
from magictailor.evaluate.metrics.quality import JudgeQuality, kernel_distance
from magictailor.evaluate.metrics.scorer import ScoredImage, Target
from magictailor.generation.protocol import PROMPTS
from magictailor.world.judgement import Judgement, SeenComponent
from magictailor.world.pairs import CHALLENGES, WorldPair, composite_scene, concept_scene, reference_scenes, world_pair
from magictailor.world.render import render
from magictailor.world.scene import Component, Concept, Scene, random_color, random_concept
from oracle import oracle

PAIR = world_pair(10**8 + 1, "polluting")
BOTH = ParsedPrompt(True, True, ())
TOGETHER = " with ".join(PAIR.words)
TUNING = range(10**8 + 10, 10**8 + 16)


def target(pair: WorldPair | None = PAIR) -> Target:
    return Target(Pair("pair", ()), PAIR.words, pair)


def truths(pair: WorldPair, parsed: ParsedPrompt) -> Truths:
    unrelated = tuple(oracle(parsed.scene(pair, unrelated_owner(pair, n))) for n in range(judging.UNRELATED))
    subjects = (parsed.subject(pair), pair.concept, pair.owner)
    first, second, third = (oracle(parsed.scene(pair, subject)) for subject in subjects)
    return Truths(first, second, third, unrelated)


def scored(
    pair: WorldPair, shown: Concept | Component | None, parsed: ParsedPrompt = BOTH, context: str = ""
) -> dict[str, float]:
    """Metrics of a true image of another subject than requested, or in another context."""
    scene = Scene(()) if shown is None else parsed.scene(pair, shown)
    scene = replace(scene, context=context) if context else scene
    return metric_values(pair, parsed, oracle(scene), truths(pair, parsed))


def test_a_prompt_is_parsed_into_subjects_and_clauses() -> None:
    words = ("<kid>", "<hair>")
    assert parse_prompt("<kid> with <hair>, in the snow", words) == ParsedPrompt(True, True, ("snow",))
    assert parse_prompt("a photo of <kid>", words) == ParsedPrompt(True, False, ())
    assert parse_prompt("a photo of <hair>, on the beach, made of clay", words) == ParsedPrompt(
        False, True, ("beach", "clay")
    )
    assert parse_prompt("a photo of the <kid> and <hair>, in a far view", words) == ParsedPrompt(True, True, ("far",))
    for text in (
        "<kid>, in a dream",
        "watercolor painting of <kid>",
        "<kid> on the beach",
        "<kid>, in the snow, at night",
    ):
        assert parse_prompt(text, words) is None  # its true image cannot be rendered
    scene = ParsedPrompt(True, True, ("night", "far")).scene(PAIR, PAIR.composite)
    assert (scene.context, scene.treatment, scene.view, scene.subjects) == ("night", None, "far", (PAIR.composite,))
    assert ParsedPrompt(True, False, ()).subject(PAIR) == PAIR.concept
    assert ParsedPrompt(False, True, ()).subject(PAIR) == PAIR.component


def component(category: str = "kid", belief: tuple[float, ...] = (1, 0), color: float = 0) -> SeenComponent:
    return SeenComponent(category, "hair", np.ones((2, 2), bool), np.array([50, color, 0.0]), np.array(belief))


def test_errors_by_hand() -> None:
    assert color_error(np.zeros(3), np.array([30.0, 40, 0])) == 1
    assert color_error(np.zeros(3), np.array([0, 3.0, 4])) == pytest.approx(0.1)
    assert belief_error(np.array([1.0, 0, 0]), np.array([0, 0.5, 0.5])) == 1
    assert belief_error(np.array([0.7, 0.3]), np.array([0.3, 0.7])) == pytest.approx(0.4)
    true = component()
    assert component_error(true, true) == 0
    assert component_error(None, true) == 1
    assert component_error(component(belief=(0, 1)), true) == pytest.approx(1 / 3)
    assert component_error(component(belief=(0, 1), color=100), true) == pytest.approx(2 / 3)
    assert component_error(component("hero", (1, 0, 0)), true) == pytest.approx(1 / 3)  # another category's hair
    cells = (("kid", "hair"), ("kid", "accessory"))
    assert components_error({cells[0]: true}, {cells[0]: true}, cells) == 0
    assert components_error({}, {cells[0]: true}, cells) == 0.5
    assert components_error({cells[0]: true}, {}, cells[:1]) == 1  # one too many
    assert components_error({}, {}, ()) is None
    assert imbalance([0.2, 0.6], [0.4, 0.6]) == pytest.approx(0.5)
    assert imbalance([0.9, 0.9], [0.4, 0.6]) == 0  # both no better than chance


def test_pollution_is_the_shift_to_the_owner_beyond_chance() -> None:
    """Distances by hand. The truth is nearer to the owner (0.6) than to the unrelated instance (0.8)."""
    truth = {"to_owner": 0.6, "to_unrelated": 0.8}

    def shift(owner: float, unrelated: float) -> float | None:
        return relative_shift([owner, truth["to_owner"]], [unrelated, truth["to_unrelated"]], 0.9)

    assert shift(0.6, 0.8) == pytest.approx(0)
    assert shift(0.0, 0.9) == pytest.approx(1)  # the owner itself
    assert shift(0.3, 0.85) == pytest.approx(0.5)
    assert shift(0.5, 0.7) == pytest.approx(0)  # nearer to both alike: no pollution
    assert shift(0.9, 0.0) == -1  # the unrelated instance itself
    assert relative_shift([0.5, 0.5], [0.5, 0.5], 0.01) is None


@pytest.mark.parametrize("challenge", list(CHALLENGES))
def test_the_truth_has_no_error_and_an_empty_image_has_all(challenge: str) -> None:
    for seed in TUNING[:2]:
        pair = world_pair(seed, challenge)
        best, worst = scored(pair, pair.composite), scored(pair, None)
        assert best["identity"] == 1
        assert best["concept error"] == best["component error"] == 0
        assert best["features"] == pytest.approx(0, abs=1e-6)
        assert best["found"] == 1
        assert best.get("pollution", 0) == best["imbalance"] == best.get("extra leakage", 0) == 0
        assert (worst["identity"], worst["found"]) == (0, 0)
        assert not {"imbalance", "pollution"} & set(worst)  # undefined if no subject is found


def test_a_component_that_is_not_transferred_is_an_error_of_the_component_only() -> None:
    """The concept with its own component is polluted by that component and not by the owner."""
    for seed in TUNING:
        pair = world_pair(seed, "plain")
        found = scored(pair, pair.concept)
        assert found["concept error"] == pytest.approx(0, abs=0.05)  # other hair may hide other pixels
        assert found["component error"] > 0.3
        assert found["component pollution"] == pytest.approx(1)
        assert abs(found["concept pollution"]) < 0.05
        assert found["imbalance"] > 0.9


def test_the_owner_itself_is_full_pollution_and_other_concepts_are_none() -> None:
    owners, strangers, leaks = [], [], []
    for seed in TUNING[:3]:
        pair = world_pair(seed, "polluting")
        found = scored(pair, pair.owner)
        assert found["component error"] < 0.1
        assert found["concept error"] > 0.3
        assert found["concept pollution"] == pytest.approx(1)
        owners.append(found["concept pollution"])
        leaks.append(found.get("extra leakage", 1.0))
        for draw in range(4):
            other = random_concept(np.random.default_rng((seed, draw, 77)), pair.concept.category)
            strangers.append(scored(pair, other.wearing(pair.component))["concept pollution"])
    assert np.mean(leaks) == 1
    assert abs(np.mean(strangers)) < 0.2  # by chance in both directions


def test_one_feature_of_the_owner_is_partial_pollution() -> None:
    polluted = replace(PAIR.composite, color=PAIR.owner.color)
    stranger = replace(
        PAIR.composite, color=random_color(np.random.default_rng(5), (PAIR.owner.color.name,), PAIR.concept.spec.skin)
    )
    found, other = scored(PAIR, polluted), scored(PAIR, stranger)
    assert 0.1 < found["concept pollution"] < 0.9
    assert found["concept pollution"] > other["concept pollution"] + 0.1
    assert found["component error"] < 0.1  # independent of the component


def _extra(pair: WorldPair) -> list[Component]:
    """The owner's other components, of kinds that the composite lacks."""
    kinds = {kind for _, kind in other_cells(pair.owner, pair.component)}
    kinds -= {c.kind for c in pair.composite.components}
    return [c for c in pair.owner.components if c.kind in kinds]


def test_leakage_of_the_owners_other_components_and_context() -> None:
    pair = next(p for p in (world_pair(seed, "polluting") for seed in TUNING) if _extra(p))
    extra = _extra(pair)
    assert scored(pair, pair.composite)["extra leakage"] == 0
    assert scored(pair, pair.composite.wearing(extra[0]))["extra leakage"] == pytest.approx(1 / len(extra))
    context = owner_context(pair)
    assert context is not None
    assert context == reference_scenes(pair)[1][0].context
    assert scored(pair, pair.composite)["place leakage"] == 0
    assert scored(pair, pair.composite, context=context)["place leakage"] == 1
    assert "place leakage" not in scored(pair, pair.composite, ParsedPrompt(True, True, (context,)))
    assert "place leakage" not in scored(world_pair(TUNING[0], "plain"), world_pair(TUNING[0], "plain").composite)


def test_a_prompt_for_one_subject_has_its_metrics_only() -> None:
    concept = scored(PAIR, PAIR.concept, ParsedPrompt(True, False, ()))
    assert concept["identity"] == 1
    assert not {"component error", "pollution", "imbalance"} & set(concept)
    component = scored(PAIR, PAIR.component, ParsedPrompt(False, True, ()))
    assert component["identity"] == 1
    assert "concept error" not in component
    assert scored(PAIR, PAIR.composite, ParsedPrompt(True, True, ("snow",)))["text"] == 1
    assert scored(PAIR, PAIR.composite, ParsedPrompt(True, True, ("snow",)), context="beach")["text"] == 0
    assert scored(PAIR, PAIR.composite, ParsedPrompt(True, True, ("snow", "clay")), context="beach")["text"] == 0.5


def test_another_category_is_a_full_error() -> None:
    other = world_pair(next(s for s in TUNING if world_pair(s, "plain").labels[0] != PAIR.labels[0]), "plain")
    found = scored(PAIR, other.composite)
    assert found["concept error"] == 1
    assert "concept pollution" not in found


def test_unrelated_owners_share_neither_variant_nor_body() -> None:
    for seed in TUNING:
        pair = world_pair(seed, "plain")
        owner = unrelated_owner(pair, 0)
        assert owner == unrelated_owner(pair, 0) != unrelated_owner(pair, 1)
        assert owner.category == pair.owner.category
        assert owner.own(pair.kind).variant not in {pair.component.variant, pair.concept.own(pair.kind).variant}
        assert owner.color.name not in {pair.concept.color.name, pair.owner.color.name}


def test_images_whose_prompt_is_unknown_have_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Judgement = oracle(composite_scene(PAIR))
    monkeypatch.setattr(judging, "judge_network", lambda: None)
    monkeypatch.setattr(judging, "judged", lambda _, images: [seen] * len(images))
    monkeypatch.setattr(judging, "read_truths", lambda _, *given: truths(*given))
    image = Image.fromarray(render(composite_scene(PAIR)).image)
    images = [ScoredImage(f"a photo of {TOGETHER}", 3, image), ScoredImage(f"{TOGETHER}, in a dream", 4, image)]
    found = list(JudgeScorer().score(target(), images))
    assert {score.seed for score in found} == {3}
    assert {score.metric: score.value for score in found}["identity"] == 1
    assert {score.metric for score in found} <= set(JudgeScorer().higher_is_better)
    assert list(JudgeScorer().score(target(None), images)) == []


def test_the_kernel_distance_is_near_0_for_one_distribution_and_by_hand() -> None:
    rng = np.random.default_rng(0)
    first, second, other = rng.normal(size=(400, 8)), rng.normal(size=(400, 8)), rng.normal(0.7, 1, (400, 8))
    assert abs(kernel_distance(first, second)) < 0.05 < kernel_distance(first, other)
    a, b = np.array([[1.0, 0], [0, 1]]), np.array([[1.0, 1], [0, 0]])
    within_a, within_b = (0 / 2 + 1) ** 3, (0 / 2 + 1) ** 3  # each of two different images
    between = np.mean([(1 / 2 + 1) ** 3, 1, (1 / 2 + 1) ** 3, 1])
    assert kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * between)


# The tests below use the shipped judge.


def test_the_judge_scores_the_truth_best_in_every_prompt() -> None:
    """A true composite against the concept with its own component, for each of the 20 prompts."""
    pair = world_pair(10**8 + 2, "plain")
    scorer, together = JudgeScorer(), " with ".join(pair.words)

    def found(scenes: Sequence[Scene], prompts: Sequence[str]) -> list[dict[str, float]]:
        images = [ScoredImage(p, 0, Image.fromarray(render(s).image)) for s, p in zip(scenes, prompts, strict=True)]
        values: dict[str, dict[str, float]] = {prompt: {} for prompt in prompts}
        for score in scorer.score(Target(Pair("pair", ()), pair.words, pair), images):
            values[score.prompt][score.metric] = score.value
        return list(values.values())

    texts = [f"{together}, {text}" for text in PROMPTS.values()]
    good = found([composite_scene(pair, name) for name in PROMPTS], texts)
    bad = found([concept_scene(pair, name) for name in PROMPTS], texts)
    assert all(g["identity"] == pytest.approx(1) and g["features"] < 1e-6 for g in good)
    assert np.mean([g["text"] for g in good]) >= 0.95
    assert np.mean([b["component error"] for b in bad if "component error" in b]) > 0.3
    assert np.mean([b["concept error"] for b in bad]) < 0.1
    assert np.mean([b["component pollution"] for b in bad if "component pollution" in b]) > 0.7
    assert np.mean([abs(b["concept pollution"]) for b in bad if "concept pollution" in b]) < 0.2
    assert found([Scene(())], [f"a photo of {together}"])[0]["identity"] == 0


def test_quality_is_a_score_of_all_images_and_falls_with_noise() -> None:
    scorer, rng = JudgeQuality(), np.random.default_rng(0)

    def quality(images: list[np.ndarray]) -> float:
        texts = [f"{TOGETHER}, {text}" for text in PROMPTS.values()]
        (score,) = scorer.score(
            target(), [ScoredImage(t, 0, Image.fromarray(p)) for t, p in zip(texts, images, strict=True)]
        )
        assert (score.metric, score.prompt, score.seed) == ("kid", "", -1)
        return score.value

    true = [render(composite_scene(PAIR, name)).image for name in PROMPTS]
    rough = [(p + rng.normal(0, 40, p.shape)).clip(0, 255).astype(np.uint8) for p in true]
    others = [render(composite_scene(world_pair(10**8 + i), name)).image for i, name in enumerate(PROMPTS)]
    worse = min(quality(rough), quality(others))  # a judge's features have their own scale
    assert abs(quality(true)) < worse / 3
    assert list(scorer.score(target(None), [])) == []
