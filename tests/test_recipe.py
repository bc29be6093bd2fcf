"""A recipe is data: it comes back from JSON, and a bad setting is one line with the fix."""

import json

import pytest

from magictailor.backbones.load import PAPER
from magictailor.common.errors import InputError
from magictailor.methods import METHODS
from magictailor.recipe import (
    Augment,
    CrossAttention,
    DMDeg,
    LoRA,
    MaskOut,
    Preserve,
    PseudoWords,
    Recipe,
    Untouched,
    recipe_from,
    with_settings,
)
from tiny import DEFAULTS, recipe


def test_round_trip_through_json() -> None:
    for make in METHODS.values():
        made = make(DEFAULTS)
        assert recipe_from(json.loads(json.dumps(made.dump()))) == made


def test_settings_change_what_they_name_and_nothing_else() -> None:
    before = recipe()
    after = with_settings(
        before,
        [
            "phases.1.lr=1e-5",
            "train.0.rank=16",
            "phases.0.degradation.alpha=0.4",
            'phases.1.degradation={"kind": "mask-out"}',
            "phases.1.attention=None",
            "prompt=an image of {}",
            "reference.hard_start=true",
            "micro_batch=2",
        ],
    )
    assert after.phases[1].lr == 1e-5
    assert after.train[0] == LoRA(rank=16)
    assert after.phases[0].degradation == DMDeg(alpha=0.4)
    assert after.phases[1].degradation == MaskOut()
    assert (after.phases[0].attention, after.phases[1].attention) == (CrossAttention(), None)
    assert (after.prompt, after.micro_batch, after.reference.hard_start) == ("an image of {}", 2, True)
    same = {"phases", "train", "prompt", "micro_batch", "reference"}
    left, right = before.dump(), after.dump()
    assert {k for k in left if left[k] != right[k]} == same
    assert left["phases"][0] | {"degradation": 0} == right["phases"][0] | {"degradation": 0}


def test_a_part_is_removed_with_none() -> None:
    before = recipe()
    assert before.phases[1].preserve is not None
    after = with_settings(before, ["phases.1.preserve=none"])
    assert after.phases[1].preserve is None
    assert with_settings(after, ["phases.1.preserve={}"]).phases[1] == before.phases[1]
    assert with_settings(before, ['phases.0.degradation={"kind": "none"}']).phases[0].degradation == Untouched()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("phases.1.lrr=1", ["phases.1.lrr", "phases.1.lr"]),
        ("phase.0.steps=3", ["phases.0.steps"]),
        ("phases.7.lr=1", ["phases.7.lr", "phases."]),
        ("train.0.rnak=8", ["train.0.rank"]),
        ("seed", ["key=value"]),
        ("phases.0.lr=-1", ["phases.0.lr", "greater than 0", "-1"]),
        ("phases.1.preserve.decay=1", ["decay", "less than 1"]),
        ("phases.0.steps=many", ["phases.0.steps", "many"]),
        ("phases.0.reduce=median", ["phases.0.reduce", "median"]),
        ("phases.0.lr=NaN", ["phases.0.lr"]),
        ("train.0.rank=0", ["rank", "greater than or equal to 1"]),
        ("seed=4294967296", ["seed", "4294967296"]),
        ('phases.0.degradation={"kind": "blur"}', ["degradation", "blur"]),
        ("phases=[]", ["phases"]),
        ("batch=2", ["compares all samples"]),
        ('phases.1.train=["denoiser"]', ["only what the recipe trains"]),
        ("phases.1.attention.blocks=up", ["one for all phases"]),
        ('phases.0.region={"prompt": "a {concept} with {}"}', ["region.prompt", "nothing else in braces"]),
        ('train=[{"kind": "lora"}, {"kind": "denoiser"}]', ["one of lora, cross-attention and denoiser"]),
        ("called={label}", ["called", "{word}"]),
        ("base_steps=999", ["base_steps"]),
        ("base_steps=1", ["only where those are trained"]),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(setting: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        with_settings(recipe(), [setting])
    assert "\n" not in str(caught.value)
    assert [w for w in words if w not in str(caught.value)] == []


def test_a_prompt_must_hold_the_word() -> None:
    """Without {} the pseudo-word is in no prompt: nothing would be learned, and attention has no place to read."""
    for prompt in ("a photo", "a photo of {0} and {1}", "a photo of {word}", "a {"):
        with pytest.raises(InputError, match="prompt"):
            with_settings(recipe(), [f"prompt={prompt}"])


def test_magictailor_has_the_papers_settings() -> None:
    warm_up, balance = METHODS["magictailor"](PAPER).phases
    made = METHODS["magictailor"](PAPER)
    assert (warm_up.steps, warm_up.lr, balance.steps, balance.lr) == (200, 1e-4, 300, 1e-5)
    assert warm_up.lr_per_image
    assert balance.lr_per_image
    assert warm_up.degradation == balance.degradation == DMDeg(schedule="dynamic", alpha=0.5, gamma=32, clamp=False)
    assert warm_up.attention == balance.attention == CrossAttention(weight=1e-2)
    assert (warm_up.reduce, warm_up.preserve) == ("mean", None)
    assert (balance.reduce, balance.preserve) == ("max", Preserve(weight=0.2, regulariser="momentum", decay=0.99))
    assert made.train == (LoRA(rank=32, alpha=None), PseudoWords())
    assert made.augment == Augment(jitter=0.1, flip=0.5, shared=False)
    assert (made.masked, made.weight_decay, made.clip, made.seed) == ("mask", 1e-2, 1.0, 0)
    assert (made.guidance, made.sampling_steps) == (7.5, 50)


def test_the_reference_differs_by_its_defects_and_by_nothing_else() -> None:
    ours, theirs = METHODS["magictailor"](DEFAULTS).dump(), METHODS["magictailor-reference"](DEFAULTS).dump()
    for phase in theirs["phases"]:
        assert phase["degradation"].pop("clamp")  # 6
        phase["degradation"]["clamp"] = False
    assert theirs["phases"] == ours["phases"]
    assert {k: v for k, v in theirs.items() if v != ours[k]} == {
        "method": "magictailor-reference",
        "train": [ours["train"][0], {"kind": "embedding-matrix"}],  # 2
        "augment": {**ours["augment"], "shared": True},  # 3
        "masked": "whole",  # 5
        "reference": {"rate_returns": True, "hard_start": True, "clip_skips_words": True},  # 1, 4, 7
    }


def test_without_a_lora_there_is_nothing_to_preserve() -> None:
    with pytest.raises(InputError, match="add a LoRA"):
        with_settings(recipe(), ['train=[{"kind": "pseudo-words"}]'])


def test_the_phase_of_each_step() -> None:
    made = recipe("phases.0.steps=3", "phases.1.steps=2")
    assert made.steps == 5
    assert [made.phase_at(step) for step in range(5)] == [0, 0, 0, 1, 1]


def test_unknown_fields_in_json_are_refused() -> None:
    tree = recipe().dump()
    tree["phases"][0]["colour"] = "red"
    with pytest.raises(InputError, match=r"phases\.0\.colour"):
        recipe_from(tree)
    with pytest.raises(InputError, match="method"):
        recipe_from({"phases": Recipe.model_validate(recipe().dump()).dump()["phases"]})


def test_a_value_that_is_no_text_is_refused_like_any_other() -> None:
    with pytest.raises(InputError, match=r"phases\.0\.lr: Input should be a valid number"):
        with_settings(recipe(), ["phases.0.lr=\udcff"])
