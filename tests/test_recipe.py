"""A recipe is data: it comes back from JSON, and a bad setting is one line with the fix."""

import json
from typing import Any

import pytest

from magictailor.common.errors import InputError
from magictailor.methods import METHODS
from magictailor.methods.base_defaults import BY_FAMILY, PAPER, defaults_for
from magictailor.recipe import (
    Augment,
    ContextMask,
    CrossAttention,
    Data,
    DMDeg,
    LoRA,
    MaskOut,
    NoDegradation,
    Optimisation,
    Preserve,
    Prior,
    PseudoWords,
    Recipe,
    ReferenceQuirks,
    Sampling,
    recipe_from,
    with_settings,
)
from magictailor.recipe.settings import OLD_KEYS, upgraded
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
            "prompts.template=an image of {}",
            "quirks.hard_momentum_start=true",
            "optimisation.micro_batch=2",
        ],
    )
    assert after.phases[1].lr == 1e-5
    assert after.train[0] == LoRA(rank=16)
    assert after.phases[0].degradation == DMDeg(alpha=0.4)
    assert after.phases[1].degradation == MaskOut()
    assert (after.phases[0].attention, after.phases[1].attention) == (CrossAttention(), None)
    assert after.prompts == before.prompts.model_copy(update={"template": "an image of {}"})
    assert after.optimisation == before.optimisation.model_copy(update={"micro_batch": 2})
    assert after.quirks == ReferenceQuirks(hard_momentum_start=True)
    changed = {"phases", "train", "prompts", "optimisation", "quirks"}
    left, right = before.dump(), after.dump()
    assert {k for k in left if left[k] != right[k]} == changed
    assert left["phases"][0] | {"degradation": 0} == right["phases"][0] | {"degradation": 0}


def test_a_part_is_removed_with_none() -> None:
    before = recipe()
    assert before.phases[1].preserve is not None
    after = with_settings(before, ["phases.1.preserve=none"])
    assert after.phases[1].preserve is None
    assert with_settings(after, ["phases.1.preserve={}"]).phases[1] == before.phases[1]
    assert with_settings(before, ['phases.0.degradation={"kind": "none"}']).phases[0].degradation == NoDegradation()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("phases.1.lrr=1", ["phases.1.lrr", "phases.1.lr"]),
        ("phase.0.steps=3", ["phases.0.steps"]),
        ("phases.7.lr=1", ["phases.7.lr", "phases."]),
        ("train.0.rnak=8", ["train.0.rank"]),
        ("seed", ["key=value"]),
        ("phases.0.lr=-1", ["phases.0.lr", "more than 0", "-1"]),
        ("phases.1.preserve.decay=1", ["decay", "less than 1"]),
        ("phases.0.steps=many", ["phases.0.steps", "many"]),
        ("phases.0.reduce=median", ["phases.0.reduce", "median"]),
        ("phases.0.lr=NaN", ["phases.0.lr"]),
        ("train.0.rank=0", ["rank", "at least 1"]),
        ("seed=4294967296", ["seed", "4294967296"]),
        ('phases.0.degradation={"kind": "blur"}', ["degradation", "blur"]),
        ("phases=[]", ["phases"]),
        ("data.batch=2", ["compares all samples"]),
        ('phases.1.train=["denoiser"]', ["only what the recipe trains"]),
        ("phases.1.attention.blocks=up", ["the same for all phases"]),
        ('phases.0.region={"prompt": "a {concept} with {}"}', ["region.prompt", "nothing else in braces"]),
        ('train=[{"kind": "lora"}, {"kind": "denoiser"}]', ["one of lora, cross-attention and denoiser"]),
        ("prompts.name={label}", ["prompts.name", "{word}"]),
        ("sampling.base_steps=999", ["base_steps"]),
        ("sampling.base_steps=1", ["only for recipes that train the denoiser's own weights"]),
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
            with_settings(recipe(), [f"prompts.template={prompt}"])


def test_magictailor_has_the_papers_settings() -> None:
    warm_up, balance = METHODS["magictailor"](PAPER).phases
    made = METHODS["magictailor"](PAPER)
    assert (warm_up.steps, warm_up.lr, balance.steps, balance.lr) == (200, 1e-4, 300, 1e-5)
    assert warm_up.lr_per_image
    assert balance.lr_per_image
    assert warm_up.degradation == balance.degradation == DMDeg(schedule="dynamic", alpha=0.5, gamma=32)
    assert warm_up.attention == balance.attention == CrossAttention(weight=1e-2)
    assert (warm_up.reduce, warm_up.preserve) == ("mean", None)
    assert (balance.reduce, balance.preserve) == ("max", Preserve(weight=0.2, regulariser="momentum", decay=0.99))
    assert made.train == (LoRA(rank=32, alpha=None), PseudoWords())
    assert made.data.augment == Augment(jitter=0.1, flip=0.5)
    assert made.data.batch is None
    assert (made.loss.masked, made.seed) == ("mask", 0)
    assert made.optimisation == Optimisation(weight_decay=1e-2, max_grad_norm=1.0, betas=(0.9, 0.999))
    assert made.sampling == Sampling(guidance=7.5, steps=50)
    assert made.quirks == ReferenceQuirks()


def test_the_reference_differs_by_its_quirks_and_by_nothing_else() -> None:
    ours, theirs = METHODS["magictailor"](DEFAULTS).dump(), METHODS["magictailor-reference"](DEFAULTS).dump()
    assert {k: v for k, v in theirs.items() if v != ours[k]} == {
        "method": "magictailor-reference",
        "train": [ours["train"][0], {"kind": "embedding-matrix"}],  # 2
        "loss": {**ours["loss"], "masked": "whole"},  # 5
        "quirks": {
            "lr_returns": True,  # 1
            "shared_augmentation": True,  # 3
            "hard_momentum_start": True,  # 4
            "clamp_degraded": True,  # 6
            "clip_skips_words": True,  # 7
        },
    }


def test_the_quirks_are_off_in_every_other_recipe() -> None:
    for name, make in METHODS.items():
        assert (make(PAPER).quirks == ReferenceQuirks()) == (name != "magictailor-reference")


def test_all_of_stable_diffusion_has_the_papers_numbers_and_the_embedded_base_its_own() -> None:
    assert all(defaults_for(family) is PAPER for family in ("sd1", "sd2", "sd2-v", "sdxl"))
    assert defaults_for("embedded") is BY_FAMILY["embedded"] is not PAPER


def test_where_the_optimizer_finds_the_rate_every_method_leaves_it_as_found() -> None:
    """A published rate would multiply what prodigy finds by 1e-4. MagicTailor's second phase keeps the paper's tenth."""
    base = defaults_for("z-image")
    for method in ("magictailor", "plain-lora", "dreambooth"):
        made = METHODS[method](base)
        assert made.optimisation.optimizer == "prodigy"
        assert made.optimisation.lr_scale * made.phases[0].lr == pytest.approx(1.0)


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
    with pytest.raises(InputError, match=r"phases\.0\.lr: .* expected a number, for instance 0\.5"):
        with_settings(recipe(), ["phases.0.lr=\udcff"])


# --- recipes from before format 1


@pytest.mark.parametrize("old", [*OLD_KEYS, "train.1.rate", "phases.0.degradation.clamp"])
def test_an_old_key_is_refused_and_its_new_name_given(old: str) -> None:
    """And the new name is a key of today's recipes that can be set."""
    parts = {"prior": Prior(), "context_mask": ContextMask()}
    whole = recipe().model_copy(update={"loss": recipe().loss.model_copy(update=parts)})
    with pytest.raises(InputError, match="is now") as caught:
        with_settings(whole, [f"{old}=1"])
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"settings {old}=1: unknown key; it is now '")
    new = str(caught.value).split("is now ")[1].strip("'")
    value: Any = whole.dump()
    for part in new.split("."):
        value = value[int(part)] if part.isdigit() else value[part]
    assert with_settings(whole, [f"{new}={json.dumps(value)}"]) == whole


# As magictailor 0.1.0 wrote them before format 1.
OLD_PHASE = {
    "steps": 2, "lr": 1e-3, "lr_per_image": True, "train": None, "new_optimizer": False, "reduce": "mean",
    "degradation": {"kind": "dm-deg", "schedule": "dynamic", "alpha": 0.5, "gamma": 32.0, "clamp": False},
    "attention": {"weight": 0.01, "blocks": "both", "normalised": True}, "preserve": None, "region": None,
}  # fmt: skip
OLD_BALANCE = {
    **OLD_PHASE, "lr": 1e-4, "reduce": "max",
    "preserve": {"weight": 0.2, "regulariser": "momentum", "decay": 0.99},
}  # fmt: skip
OLD_PLAIN = {**OLD_PHASE, "steps": 4, "lr_per_image": False, "degradation": {"kind": "none"}, "attention": None}
OLD_AUGMENT = {"jitter": 0.1, "brightness_alone": False, "flip": 0.5, "scale": False, "shared": False}
STILL = {**OLD_AUGMENT, "jitter": 0.0, "flip": 0.0}
OLD_RECIPE = {
    "method": "magictailor", "phases": [OLD_PHASE, OLD_BALANCE],
    "train": [{"kind": "lora", "rank": 4, "alpha": None, "layers": "all"}, {"kind": "pseudo-words", "rate": 1.0}],
    "references": None, "batch": None, "union": False, "prompt": "a photo of {}", "component_prompt": None,
    "templates": [], "called": "{word}", "component_called": None, "rare_words": [], "augment": OLD_AUGMENT,
    "prior": None, "masked": "mask", "context": None, "stratified_times": False, "rate_factor": 1.0,
    "betas": [0.9, 0.999], "weight_decay": 0.01, "clip": 1.0, "redraw": 1, "micro_batch": None, "checkpointing": False,
    "guidance": 3.0, "sampling_steps": 3, "base_steps": 0, "preview_every": 100, "seed": 0,
    "reference": {"rate_returns": False, "hard_start": False, "clip_skips_words": False},
}  # fmt: skip
CLAMPED = {**OLD_PHASE["degradation"], "clamp": True}  # type: ignore[dict-item]
OLD_CHANGES: dict[str, dict[str, Any]] = {
    "magictailor": {},
    "magictailor-reference": {
        "phases": [{**OLD_PHASE, "degradation": CLAMPED}, {**OLD_BALANCE, "degradation": CLAMPED}],
        "train": [{"kind": "lora", "rank": 4, "alpha": None, "layers": "all"}, {"kind": "embedding-matrix"}],
        "augment": {**OLD_AUGMENT, "shared": True}, "masked": "whole",
        "reference": {"rate_returns": True, "hard_start": True, "clip_skips_words": True},
    },
    "dreambooth": {
        "phases": [{**OLD_PLAIN, "lr": 1e-4}],
        "train": [{"kind": "lora", "rank": 4, "alpha": None, "layers": "attention"}],
        "batch": 1, "augment": STILL, "called": "{word} {label}", "rare_words": ["sks", "ktn", "pll", "ucd"],
        "prior": {"weight": 1.0, "images": 200, "prompt": "a photo of a {}", "guidance": None, "eta": 1.0},
    },
    "clic": {
        "phases": [{
            **OLD_PLAIN, "lr": 5e-5, "attention": {"weight": 0.5, "blocks": "up", "normalised": False},
            "region": {"weight": 0.5, "prompt": "a photo of {}", "masked": "latents"},
        }],
        "train": [
            {"kind": "cross-attention", "layers": ["to_q", "to_k", "to_v", "to_out.0"]},
            {"kind": "pseudo-words", "rate": 1.0},
        ],
        "batch": 1, "augment": STILL, "component_prompt": "a {concept} with {}", "component_called": "{word} style",
        "masked": "whole", "context": {"kind": "blend", "value": 0.5}, "weight_decay": 0.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("method", OLD_CHANGES)
def test_an_old_recipe_is_read_as_todays(method: str) -> None:
    old = {**OLD_RECIPE, **OLD_CHANGES[method], "method": method}
    assert recipe_from(upgraded(old)) == METHODS[method](DEFAULTS)


@pytest.mark.parametrize("key", OLD_KEYS)
def test_every_setting_of_an_old_recipe_is_kept(key: str) -> None:
    """Each has a value of its own, and all arrive under their new names."""
    values: dict[str, Any] = {
        "references": 2, "batch": 3, "union": True, "redraw": 4, "augment.jitter": 0.3,
        "augment.brightness_alone": True, "augment.flip": 0.1, "augment.scale": True, "augment.shared": True,
        "prompt": "an image of {}", "component_prompt": "{} on a {concept}", "templates": ["one {}", "two {}"],
        "called": "{word} {label}", "component_called": "{word} thing", "rare_words": ["sks"], "masked": "off",
        "context.kind": "floor", "context.value": 0.25, "prior.weight": 0.5, "prior.images": 7, "prior.prompt": "a {}",
        "prior.guidance": 2.0, "prior.eta": 0.5, "stratified_times": True, "rate_factor": 5.0, "betas": [0.8, 0.9],
        "weight_decay": 0.5, "clip": 2.0, "micro_batch": 6, "checkpointing": True, "guidance": 4.5,
        "sampling_steps": 9, "base_steps": 8, "preview_every": 11, "reference.rate_returns": True,
        "reference.hard_start": True, "reference.clip_skips_words": True,
        "prior": {"weight": 0.4, "images": 3, "prompt": "{}", "guidance": 1.0, "eta": 0.0},
        "context": {"kind": "blend", "value": 0.1},
    }  # fmt: skip
    old: Any = json.loads(json.dumps(OLD_RECIPE))
    first, _, second = key.partition(".")
    if second:
        whole = {"prior": values["prior"], "context": values["context"]}
        old[first] = {**(old[first] or whole[first]), second: values[key]}
    else:
        old[first] = values[key]
    found: Any = upgraded(old)
    for part in OLD_KEYS[key].split("."):
        found = found[part]
    assert found == values[key]


def test_an_old_recipe_may_lack_settings_that_came_later() -> None:
    phases = [{"steps": 3, "lr": 0.1}, {"steps": 2, "lr": 0.2, "degradation": {"kind": "none"}}]
    old = {"method": "magictailor", "phases": phases, "train": [{"kind": "lora", "rank": 2}]}
    made = recipe_from(upgraded(old))
    assert (made.steps, made.train, made.phases[1].degradation) == (5, (LoRA(rank=2),), NoDegradation())
    assert (made.data, made.optimisation) == (Data(), Optimisation())


def test_degraded_pixels_stay_clamped_if_one_old_phase_clamped_them() -> None:
    phases = [{**OLD_PHASE, "degradation": CLAMPED}, {**OLD_BALANCE, "degradation": {"kind": "none"}}]
    assert recipe_from(upgraded({**OLD_RECIPE, "phases": phases})).quirks.clamp_degraded
