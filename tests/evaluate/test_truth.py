"""Truth on pairs of the world: by colour, and by the judge's readings; equations by hand."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from magictailor.data import Pair
from magictailor.evaluate.metrics.asked import Asked, asked
from magictailor.evaluate.metrics.colour import TruthByColour
from magictailor.evaluate.metrics.contract import Drawn, Subject
from magictailor.evaluate.metrics.identity import color_error, imbalance, pollution, thing_error, toward
from magictailor.evaluate.metrics.judging import TruthByJudge
from magictailor.evaluate.metrics.quality import QualityByJudge, kernel_distance
from magictailor.world.judgement import Seen
from magictailor.world.pairs import WorldPair, composite_scene, concept_scene, world_pair
from magictailor.world.render import render
from magictailor.world.scene import PROMPTS, Component, Scene, Surface

PAIR = world_pair(10**8 + 4)
TOGETHER = " with ".join(PAIR.words)
EVERYWHERE = np.ones((2, 2), bool)


def subject(pair: WorldPair | None = PAIR) -> Subject:
    return Subject(Pair("pair", ()), PAIR.words, pair)


def scored(
    metric: TruthByColour | TruthByJudge, scene: Scene, prompt: str, pair: WorldPair | None = PAIR
) -> dict[str, float]:
    picture = Drawn(prompt, 0, Image.fromarray(render(scene).image))
    return {figure.name: figure.value for figure in metric.score(subject(pair), [picture])}


def test_a_prompt_says_which_things_and_what_is_done_to_them() -> None:
    words = ("<cat>", "<ears>")
    assert asked("<cat> with <ears>, in the snow", words) == Asked(True, True, ("snow",))
    assert asked("a photo of <cat>", words) == Asked(True, False, ())
    assert asked("a photo of <ears>, on the beach, made of clay", words) == Asked(False, True, ("beach", "clay"))
    assert asked("a photo of the <cat> and <ears>, in a far view", words) == Asked(True, True, ("far",))
    for text in (
        "<cat>, in a dream",
        "watercolor painting of <cat>",
        "<cat> on the beach",
        "<cat>, in the snow, at night",
    ):
        assert asked(text, words) is None  # its truth cannot be drawn
    scene = Asked(True, True, ("night", "far")).scene(PAIR, PAIR.composite)
    assert (scene.context, scene.treatment, scene.view, scene.things) == ("night", None, "far", (PAIR.composite,))


def test_the_truth_by_colour_knows_true_renders_and_where_it_has_no_say() -> None:
    metric = TruthByColour()
    good = scored(metric, composite_scene(PAIR), f"a photo of {TOGETHER}")
    bad = scored(metric, concept_scene(PAIR), f"a photo of {TOGETHER}")
    assert (good["composite"], bad["composite"]) == (1, 0)
    assert good["distance"] < bad["distance"]
    assert scored(metric, composite_scene(PAIR, "beach"), f"{TOGETHER}, on the beach")["composite"] == 1
    for text in (f"{TOGETHER}, at night", f"{TOGETHER}, watercolor painting", f"a photo of {PAIR.words[0]}"):
        assert scored(metric, composite_scene(PAIR), text) == {}
    assert scored(metric, composite_scene(PAIR), f"a photo of {TOGETHER}", None) == {}


def seen(name: str = "spiky hair", color: tuple[float, float, float] = (50, 0, 0), pattern: str = "plain") -> Seen:
    return Seen(name, EVERYWHERE, {"color": np.array(color, np.float32)}, pattern, np.ones(1, np.float32))


HAIR = Component("hair", "spiky", Surface("red", (1, 2, 3), "plain", (0, 0, 0)), 1.0)


def test_errors_of_a_thing_by_hand() -> None:
    truth = seen()
    assert thing_error(seen(), truth, HAIR, True) == 0
    assert thing_error(None, truth, HAIR, True) == 1
    assert thing_error(seen(color=(50, 25, 0)), truth, HAIR, True) == pytest.approx(0.5 / 3)
    assert thing_error(seen(color=(50, 300, 0)), truth, HAIR, True) == pytest.approx(1 / 3)
    assert thing_error(seen(pattern="dotted"), truth, HAIR, True) == pytest.approx(1 / 3)
    assert thing_error(seen(), truth, HAIR, False) == pytest.approx(1 / 3)
    misread = seen(pattern="striped")  # the judge is wrong about the truth, so it is not asked
    assert thing_error(seen(pattern="dotted"), misread, HAIR, True) == 0
    assert color_error(replace(truth, colors={}), truth) == 1
    assert imbalance([0.2, 0.7]) == pytest.approx(0.5)


def test_stripes_have_no_ground() -> None:
    """Which of two colours is read as the ground does not count; which two they are does."""
    red, blue, green = (np.array(c, np.float32) for c in ((50, 40, 0), (50, -40, 0), (50, 0, 60)))

    def striped(ground: np.ndarray, accent: np.ndarray) -> Seen:
        return Seen("spiky hair", EVERYWHERE, {"color": ground, "accent": accent}, "striped", np.ones(1, np.float32))

    truth = striped(red, blue)
    assert color_error(striped(blue, red), truth) == 0
    assert color_error(striped(red, green), truth) > 0.4
    assert pollution(striped(blue, red), truth, seen(color=(50, -40, 0))) == 0
    plain = seen(color=(50, -40, 0))
    assert color_error(plain, truth) == pytest.approx(1)  # a plain one has the ground's colour or not


def test_pollution_is_the_way_to_the_other_thing() -> None:
    a, b = (np.array(v, np.float32) for v in ((0, 0, 0), (10, 0, 0)))
    for value, wanted in (((0, 0, 0), 0), ((5, 0, 0), 0.5), ((20, 0, 0), 1), ((-5, 0, 0), 0), ((0, 9, 9), 0)):
        assert toward(np.array(value, np.float32), a, b) == pytest.approx(wanted)
    assert toward(b, a, a) == 0
    truth, other = seen(), seen(name="curly hair", color=(50, 40, 0))
    assert pollution(truth, truth, other) == 0
    assert pollution(other, truth, other) == 1
    assert pollution(seen(color=(50, 20, 0)), truth, other) == pytest.approx(0.25)  # half the colour, none of the style
    assert pollution(None, truth, other) is None


def test_the_judge_scores_the_truth_best_in_every_prompt() -> None:
    """A true composite against the concept with its own component, as each of the 20 prompts asks."""
    metric, prompts = TruthByJudge(), list(PROMPTS.items())
    good, bad = [], []
    for name, text in prompts:
        good.append(scored(metric, composite_scene(PAIR, name), f"{TOGETHER}, {text}"))
        bad.append(scored(metric, concept_scene(PAIR, name), f"{TOGETHER}, {text}"))
    assert all(g["identity"] == pytest.approx(1) and g["features"] < 1e-6 for g in good)
    assert np.mean([g["text"] for g in good]) >= 0.95
    assert all(b["component error"] > 0.2 for b in bad if "component error" in b)
    assert np.mean([b["pollution"] for b in bad if "pollution" in b]) > 0.3 > np.mean([g["pollution"] for g in good])
    assert np.mean([b["concept error"] for b in bad]) < 0.1
    assert np.mean([b["imbalance"] for b in bad if "imbalance" in b]) > 0.2
    assert scored(metric, composite_scene(PAIR), f"{TOGETHER}, in a dream") == {}
    alone = scored(metric, concept_scene(PAIR), f"a photo of {PAIR.words[0]}")
    assert set(alone) == {"features", "found", "concept error", "pollution", "identity"}
    nothing = scored(metric, Scene(()), f"a photo of {TOGETHER}")
    assert (nothing["identity"], nothing["found"]) == (0, 0)
    assert not {"imbalance", "pollution"} & set(nothing)  # nothing is no balance
    other = world_pair(10**8 + 9)  # another thing altogether: the category is wrong
    assert other.labels[0] != PAIR.labels[0]
    assert scored(metric, composite_scene(other), f"a photo of {TOGETHER}")["identity"] < 0.2


def test_the_kernel_distance_is_near_nothing_for_one_distribution_and_by_hand() -> None:
    rng = np.random.default_rng(0)
    first, second, other = rng.normal(size=(400, 8)), rng.normal(size=(400, 8)), rng.normal(0.7, 1, (400, 8))
    assert abs(kernel_distance(first, second)) < 0.05 < kernel_distance(first, other)
    a, b = np.array([[1.0, 0], [0, 1]]), np.array([[1.0, 1], [0, 0]])
    within_a, within_b = (0 / 2 + 1) ** 3, (0 / 2 + 1) ** 3  # each of two different pictures
    between = np.mean([(1 / 2 + 1) ** 3, 1, (1 / 2 + 1) ** 3, 1])
    assert kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * between)


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


def test_difficult_pairs_of_another_category_have_no_owner_to_become() -> None:
    pair = world_pair(10**8 + 4, "category")
    together = " with ".join(pair.words)
    picture = [Drawn(f"a photo of {together}", 0, Image.fromarray(render(composite_scene(pair)).image))]
    hard = Subject(Pair("pair", ()), pair.words, pair)
    assert list(TruthByColour().score(hard, picture)) == []
    assert "pollution" not in {figure.name for figure in TruthByJudge().score(hard, picture)}
