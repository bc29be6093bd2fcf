"""Truth on pairs of the world: errors, pollution, leakage and imbalance, on the readings of a judge that is always right."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import magictailor.evaluate.metrics.judging as judging
from magictailor.data import Pair
from magictailor.evaluate.metrics.asked import Asked, asked
from magictailor.evaluate.metrics.contract import Drawn, Subject
from magictailor.evaluate.metrics.identity import (
    belief_error,
    color_error,
    component_error,
    components_error,
    imbalance,
    nearer,
    other_cells,
)
from magictailor.evaluate.metrics.judging import TruthByJudge, Truths, owner_place, scores, unrelated_owner
from magictailor.evaluate.metrics.quality import QualityByJudge, kernel_distance
from magictailor.generation.protocol import PROMPTS
from magictailor.world.judgement import Judgement, SeenComponent
from magictailor.world.pairs import CHALLENGES, WorldPair, composite_scene, concept_scene, reference_scenes, world_pair
from magictailor.world.render import render
from magictailor.world.scene import Component, Concept, Scene, random_color, random_concept
from oracle import oracle

PAIR = world_pair(10**8 + 1, "polluting")
BOTH = Asked(True, True, ())
TOGETHER = " with ".join(PAIR.words)
TUNING = range(10**8 + 10, 10**8 + 16)


def subject(pair: WorldPair | None = PAIR) -> Subject:
    return Subject(Pair("pair", ()), PAIR.words, pair)


def truths(pair: WorldPair, request: Asked) -> Truths:
    unrelated = tuple(oracle(request.scene(pair, unrelated_owner(pair, n))) for n in range(judging.UNRELATED))
    subjects = (request.subject(pair), pair.concept, pair.owner)
    first, second, third = (oracle(request.scene(pair, subject)) for subject in subjects)
    return Truths(first, second, third, unrelated)


def scored(
    pair: WorldPair, shown: Concept | Component | None, request: Asked = BOTH, context: str = ""
) -> dict[str, float]:
    """Scores of a true picture of another subject than was asked for, perhaps elsewhere."""
    scene = Scene(()) if shown is None else request.scene(pair, shown)
    scene = replace(scene, context=context) if context else scene
    return scores(pair, request, oracle(scene), truths(pair, request))


def test_a_prompt_says_which_subjects_and_what_is_done_to_them() -> None:
    words = ("<kid>", "<hair>")
    assert asked("<kid> with <hair>, in the snow", words) == Asked(True, True, ("snow",))
    assert asked("a photo of <kid>", words) == Asked(True, False, ())
    assert asked("a photo of <hair>, on the beach, made of clay", words) == Asked(False, True, ("beach", "clay"))
    assert asked("a photo of the <kid> and <hair>, in a far view", words) == Asked(True, True, ("far",))
    for text in (
        "<kid>, in a dream",
        "watercolor painting of <kid>",
        "<kid> on the beach",
        "<kid>, in the snow, at night",
    ):
        assert asked(text, words) is None  # its truth cannot be drawn
    scene = Asked(True, True, ("night", "far")).scene(PAIR, PAIR.composite)
    assert (scene.context, scene.treatment, scene.view, scene.subjects) == ("night", None, "far", (PAIR.composite,))
    assert Asked(True, False, ()).subject(PAIR) == PAIR.concept
    assert Asked(False, True, ()).subject(PAIR) == PAIR.component


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


def test_pollution_is_the_way_to_the_owner_that_chance_does_not_explain() -> None:
    """Distances by hand. The truth happens to be nearer to the owner (.6) than to the unrelated instance (.8)."""
    truth = {"to_owner": 0.6, "to_unrelated": 0.8}

    def moved(owner: float, unrelated: float) -> float | None:
        return nearer([owner, truth["to_owner"]], [unrelated, truth["to_unrelated"]], [0.9])

    assert moved(0.6, 0.8) == pytest.approx(0)
    assert moved(0.0, 0.9) == pytest.approx(1)  # the owner itself
    assert moved(0.3, 0.85) == pytest.approx(0.5)
    assert moved(0.5, 0.7) == pytest.approx(0)  # nearer to both alike: no pollution
    assert moved(0.9, 0.0) == -1  # the unrelated instance itself
    assert nearer([0.5, 0.5], [0.5, 0.5], [0.01]) is None


@pytest.mark.parametrize("challenge", list(CHALLENGES))
def test_the_truth_has_no_error_and_nothing_has_every(challenge: str) -> None:
    for seed in TUNING[:2]:
        pair = world_pair(seed, challenge)
        best, worst = scored(pair, pair.composite), scored(pair, None)
        assert best["identity"] == 1
        assert best["concept error"] == best["component error"] == 0
        assert best["features"] == pytest.approx(0, abs=1e-6)
        assert best["found"] == 1
        assert best.get("pollution", 0) == best["imbalance"] == best.get("extra leakage", 0) == 0
        assert (worst["identity"], worst["found"]) == (0, 0)
        assert not {"imbalance", "pollution"} & set(worst)  # nothing is no balance


def test_what_was_not_transferred_is_the_components_error_alone() -> None:
    """The concept with its own component: the floor of the component, and no fault of the owner's."""
    for seed in TUNING:
        pair = world_pair(seed, "plain")
        found = scored(pair, pair.concept)
        assert found["concept error"] == pytest.approx(0, abs=0.05)  # other hair may hide other pixels
        assert found["component error"] > 0.3
        assert found["component pollution"] == pytest.approx(1)
        assert abs(found["concept pollution"]) < 0.05
        assert found["imbalance"] > 0.9


def test_the_owner_itself_is_all_pollution_and_anybody_else_is_none() -> None:
    owners, strangers, leaks = [], [], []
    for seed in TUNING:
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
    assert abs(np.mean(strangers)) < 0.2  # chance, to both sides


def test_one_feature_of_the_owner_is_a_part_of_the_way() -> None:
    polluted = replace(PAIR.composite, color=PAIR.owner.color)
    stranger = replace(
        PAIR.composite, color=random_color(np.random.default_rng(5), (PAIR.owner.color.name,), PAIR.concept.spec.skin)
    )
    found, other = scored(PAIR, polluted), scored(PAIR, stranger)
    assert 0.1 < found["concept pollution"] < 0.9
    assert found["concept pollution"] > other["concept pollution"] + 0.1
    assert found["component error"] < 0.1  # apart from how well the component came


def _extra(pair: WorldPair) -> list[Component]:
    """The owner's further components of kinds that the composite has not."""
    kinds = {kind for _, kind in other_cells(pair.owner, pair.component)}
    kinds -= {c.kind for c in pair.composite.components}
    return [c for c in pair.owner.components if c.kind in kinds]


def test_further_components_and_the_place_of_the_owner_leak() -> None:
    pair = next(p for p in (world_pair(seed, "polluting") for seed in TUNING) if _extra(p))
    extra = _extra(pair)
    assert scored(pair, pair.composite)["extra leakage"] == 0
    assert scored(pair, pair.composite.wearing(extra[0]))["extra leakage"] == pytest.approx(1 / len(extra))
    place = owner_place(pair)
    assert place is not None
    assert place == reference_scenes(pair)[1][0].context
    assert scored(pair, pair.composite)["place leakage"] == 0
    assert scored(pair, pair.composite, context=place)["place leakage"] == 1
    assert "place leakage" not in scored(pair, pair.composite, Asked(True, True, (place,)))
    assert "place leakage" not in scored(world_pair(TUNING[0], "plain"), world_pair(TUNING[0], "plain").composite)


def test_each_alone_is_asked_for_itself() -> None:
    concept = scored(PAIR, PAIR.concept, Asked(True, False, ()))
    assert concept["identity"] == 1
    assert not {"component error", "pollution", "imbalance"} & set(concept)
    component = scored(PAIR, PAIR.component, Asked(False, True, ()))
    assert component["identity"] == 1
    assert "concept error" not in component
    assert scored(PAIR, PAIR.composite, Asked(True, True, ("snow",)))["text"] == 1
    assert scored(PAIR, PAIR.composite, Asked(True, True, ("snow",)), context="beach")["text"] == 0
    assert scored(PAIR, PAIR.composite, Asked(True, True, ("snow", "clay")), context="beach")["text"] == 0.5


def test_another_category_is_another_concept() -> None:
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


def test_the_metric_scores_what_it_can_and_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Judgement = oracle(composite_scene(PAIR))
    monkeypatch.setattr(judging, "judge_network", lambda: None)
    monkeypatch.setattr(judging, "judged", lambda _, images: [seen] * len(images))
    monkeypatch.setattr(judging, "truths_of", truths)
    image = Image.fromarray(render(composite_scene(PAIR)).image)
    pictures = [Drawn(f"a photo of {TOGETHER}", 3, image), Drawn(f"{TOGETHER}, in a dream", 4, image)]
    figures = list(TruthByJudge().score(subject(), pictures))
    assert {f.seed for f in figures} == {3}
    assert {f.name: f.value for f in figures}["identity"] == 1
    assert {f.name for f in figures} <= set(TruthByJudge().higher)
    assert list(TruthByJudge().score(subject(None), pictures)) == []


def test_the_kernel_distance_is_near_nothing_for_one_distribution_and_by_hand() -> None:
    rng = np.random.default_rng(0)
    first, second, other = rng.normal(size=(400, 8)), rng.normal(size=(400, 8)), rng.normal(0.7, 1, (400, 8))
    assert abs(kernel_distance(first, second)) < 0.05 < kernel_distance(first, other)
    a, b = np.array([[1.0, 0], [0, 1]]), np.array([[1.0, 1], [0, 0]])
    within_a, within_b = (0 / 2 + 1) ** 3, (0 / 2 + 1) ** 3  # each of two different pictures
    between = np.mean([(1 / 2 + 1) ** 3, 1, (1 / 2 + 1) ** 3, 1])
    assert kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * between)


# From here on by the shipped judge.


def test_the_judge_scores_the_truth_best_in_every_prompt() -> None:
    """A true composite against the concept with its own component, as each of the 20 prompts asks."""
    pair = world_pair(10**8 + 2, "plain")
    metric, together = TruthByJudge(), " with ".join(pair.words)

    def found(scene: Scene, prompt: str) -> dict[str, float]:
        picture = Drawn(prompt, 0, Image.fromarray(render(scene).image))
        return {f.name: f.value for f in metric.score(Subject(Pair("pair", ()), pair.words, pair), [picture])}

    prompts = [(name, f"{together}, {text}") for name, text in PROMPTS.items()]
    good = [found(composite_scene(pair, name), text) for name, text in prompts]
    bad = [found(concept_scene(pair, name), text) for name, text in prompts]
    assert all(g["identity"] == pytest.approx(1) and g["features"] < 1e-6 for g in good)
    assert np.mean([g["text"] for g in good]) >= 0.95
    assert np.mean([b["component error"] for b in bad if "component error" in b]) > 0.3
    assert np.mean([b["concept error"] for b in bad]) < 0.1
    assert np.mean([b["component pollution"] for b in bad if "component pollution" in b]) > 0.7
    assert np.mean([abs(b["concept pollution"]) for b in bad if "concept pollution" in b]) < 0.2
    assert found(Scene(()), f"a photo of {together}")["identity"] == 0


def test_quality_is_of_all_pictures_together_and_falls_with_noise() -> None:
    metric, rng = QualityByJudge(), np.random.default_rng(0)

    def quality(pictures: list[np.ndarray]) -> float:
        texts = [f"{TOGETHER}, {text}" for text in PROMPTS.values()]
        (figure,) = metric.score(
            subject(), [Drawn(t, 0, Image.fromarray(p)) for t, p in zip(texts, pictures, strict=True)]
        )
        assert (figure.name, figure.prompt, figure.seed) == ("kid", "", -1)
        return figure.value

    true = [render(composite_scene(PAIR, name)).image for name in PROMPTS]
    rough = [(p + rng.normal(0, 40, p.shape)).clip(0, 255).astype(np.uint8) for p in true]
    others = [render(composite_scene(world_pair(10**8 + i), name)).image for i, name in enumerate(PROMPTS)]
    worse = min(quality(rough), quality(others))  # a judge's features have their own scale
    assert abs(quality(true)) < worse / 3
    assert list(metric.score(subject(None), [])) == []
