"""What run.json says is read again, by its format; a base that has changed is noticed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from magictailor import load
from magictailor.backbones import load_backbone
from magictailor.common.errors import InputError
from magictailor.common.events import Event, Notice
from magictailor.recipe import with_settings
from magictailor.training.run_folder import FORMAT, RUN_FILE, RunInfo, acquire, describe_pair, read_run
from tiny import Call, backbone, pair, pipeline, recipe, sd1, train

SHORT = ("phases.0.steps=1", "phases.1.steps=1", "sampling.steps=2", "sampling.preview_every=0")


@pytest.fixture
def run(tiny_folder: Path, tmp_path: Path) -> Path:
    return train(pair(), tmp_path / "run", model=str(tiny_folder), recipe=recipe(*SHORT))


def rewritten(folder: Path, **changes: Any) -> None:
    path = folder / RUN_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def made_before_formats(folder: Path, **changes: Any) -> None:
    """Write the run's file as version 0.1.0 did before formats had numbers: a flat recipe, no digest of the base."""
    today = json.loads((folder / RUN_FILE).read_text())
    degradation = {"kind": "dm-deg", "schedule": "dynamic", "alpha": 0.5, "gamma": 32.0, "clamp": False}
    attention = {"weight": 0.01, "blocks": "both", "normalised": True}
    warm_up = {
        "steps": 1, "lr": 1e-3, "lr_per_image": True, "train": None, "new_optimizer": False, "reduce": "mean",
        "degradation": degradation, "attention": attention, "preserve": None, "region": None,
    }  # fmt: skip
    preserve = {"weight": 0.2, "regulariser": "momentum", "decay": 0.99}
    old_recipe = {
        "method": "magictailor", "phases": [warm_up, {**warm_up, "lr": 1e-4, "reduce": "max", "preserve": preserve}],
        "train": [{"kind": "lora", "rank": 4, "alpha": None, "layers": "all"}, {"kind": "pseudo-words", "rate": 1.0}],
        "references": None, "batch": None, "union": False, "prompt": "a photo of {}", "component_prompt": None,
        "templates": [], "called": "{word}", "component_called": None, "rare_words": [],
        "augment": {"jitter": 0.1, "brightness_alone": False, "flip": 0.5, "scale": False, "shared": False},
        "prior": None, "masked": "mask", "context": None, "stratified_times": False, "rate_factor": 1.0,
        "betas": [0.9, 0.999], "weight_decay": 0.01, "clip": 1.0, "redraw": 1, "micro_batch": None,
        "checkpointing": False, "guidance": 3.0, "sampling_steps": 2, "base_steps": 0, "preview_every": 0, "seed": 0,
        "reference": {"rate_returns": False, "hard_start": False, "clip_skips_words": False},
    }  # fmt: skip
    kept = {k: today[k] for k in ("model", "loras", "start", "precision", "pair", "versions", "threads", "preset")}
    old = {**kept, "recipe": old_recipe, "seconds": 1.5, "peak_gb": 0.5, "finished": True, **changes}
    (folder / RUN_FILE).write_text(json.dumps(old))


def test_a_run_of_an_earlier_version_is_loaded_with_a_notice(run: Path) -> None:
    (expected,) = load(run).generate("<person> with <hair>")
    made_before_formats(run)
    assert read_run(run).recipe == recipe(*SHORT)
    assert read_run(run).base is None
    events: list[Event] = []
    (generated,) = load(run, listen=events.append).generate("<person> with <hair>")
    assert generated.image.tobytes() == expected.image.tobytes()
    (notice,) = events
    assert isinstance(notice, Notice)
    assert f"made by an earlier version (format 0); its recipe is read as format {FORMAT}" in notice.text


def test_a_run_of_today_is_loaded_without_a_notice(run: Path) -> None:
    events: list[Event] = []
    load(run, listen=events.append)
    assert events == []


def test_a_finished_run_of_an_earlier_version_is_finished(run: Path, tiny_folder: Path) -> None:
    """The same command finds it done, and writes nothing."""
    made_before_formats(run)
    before = (run / RUN_FILE).read_bytes()
    assert train(pair(), run, model=str(tiny_folder), recipe=recipe(*SHORT)) == run
    assert (run / RUN_FILE).read_bytes() == before
    with pytest.raises(InputError, match=r"another run \(recipe differs\)"):
        train(pair(), run, model=str(tiny_folder), recipe=recipe(*SHORT, "seed=1"))


def test_an_unfinished_run_of_an_earlier_version_is_refused(run: Path, tiny_folder: Path) -> None:
    made_before_formats(run, finished=False)
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="an unfinished run of an earlier version; choose another folder"):
        train(pair(), run, model=str(tiny_folder), recipe=recipe(*SHORT))
    with pytest.raises(InputError, match="the run is not finished"):
        load(run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_a_newer_format_is_refused_by_its_number(run: Path, tiny_folder: Path) -> None:
    rewritten(run, format=2, recipe={"method": "unheard-of"})
    with pytest.raises(InputError, match=r"format 2, made by a newer version; upgrade magictailor"):
        load(run)
    with pytest.raises(InputError, match="format 2"):
        train(pair(), run, model=str(tiny_folder), recipe=recipe(*SHORT))


@pytest.mark.parametrize("number", ["one", None, [1], {}, 1.5])
def test_a_format_that_is_no_format_is_one_line(number: object, run: Path, tiny_folder: Path) -> None:
    rewritten(run, format=number)
    with pytest.raises(InputError, match=r"run\.json") as caught:
        load(run)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"run\.json"):
        train(pair(), run, model=str(tiny_folder), recipe=recipe(*SHORT))


@pytest.fixture
def base_and_run(tmp_path: Path) -> tuple[Path, Path]:
    """A base of its own, and a run on it."""
    pipeline().save_pretrained(tmp_path / "base")
    run = train(pair(), tmp_path / "run", model=str(tmp_path / "base"), recipe=recipe(*SHORT))
    return tmp_path / "base", run


def test_a_base_that_has_changed_at_the_same_path_is_refused(base_and_run: tuple[Path, Path]) -> None:
    base, run = base_and_run
    assert read_run(run).base == load_backbone(str(base), device="cpu").digest_as_loaded
    load(run)
    shutil.rmtree(base)
    pipeline("v_prediction").save_pretrained(base)  # the same weights, with another noise schedule
    with pytest.raises(InputError, match=r"not the base that .* was trained on"):
        load(run)
    shutil.rmtree(base)
    sd1().save_pretrained(base)
    with pytest.raises(InputError, match=r"not the base that .* was trained on"):
        load(run)
    with pytest.raises(InputError, match=r"another run \(base differs\)"):
        train(pair(), run, model=str(base), recipe=recipe(*SHORT))
    shutil.rmtree(base)
    pipeline().save_pretrained(base)
    load(run)


def test_the_same_base_in_another_precision_is_no_other_base(base_and_run: tuple[Path, Path]) -> None:
    _, run = base_and_run
    (generated,) = load(run, precision="bf16").generate("<person>")
    assert generated.image.size == (16, 16)


def test_the_command_line_says_which_argument_is_wrong(
    base_and_run: tuple[Path, Path], tmp_path: Path, call: Call
) -> None:
    base, run = base_and_run
    pipeline("v_prediction").save_pretrained(base)
    result = call("generate", run, "<person>", "--output", tmp_path / "images")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert result.err.startswith(f"error: --model {base}: not the base")


def test_what_two_runs_in_one_folder_must_share_is_named(tmp_path: Path) -> None:
    described: dict[str, Any] = describe_pair(pair())
    plan = recipe()
    info = RunInfo("a", "digest", described, plan)
    acquire(tmp_path / "run", info)
    acquire(tmp_path / "run", info)
    others = [
        (RunInfo("b", "digest", described, plan), "model"),
        (RunInfo("a", "other", described, plan), "base"),
        (RunInfo("a", "digest", {**described, "name": "other"}, plan), "pair"),
        (RunInfo("a", "digest", described, with_settings(plan, ["seed=2"])), "recipe"),
        (RunInfo("a", "digest", described, plan, start="sha"), "start"),
        (RunInfo("a", "other", described, plan, precision="bf16"), "precision"),
    ]
    for other, name in others:
        with pytest.raises(InputError, match=rf"output .*holds another run \({name} differs\); choose another folder"):
            acquire(tmp_path / "run", other)
    assert read_run(tmp_path / "run") == info


def test_a_backbone_that_was_not_loaded_by_name_has_no_digest(tmp_path: Path) -> None:
    run = train(pair(), tmp_path / "run", model=backbone(), recipe=recipe(*SHORT))
    assert read_run(run).base is None
