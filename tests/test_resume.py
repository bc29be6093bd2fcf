"""A killed run goes on as if nothing had happened: same weights, same words, same metrics, bit for bit."""

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import magictailor.training.loop as train
from magictailor import personalize
from magictailor.common.tensors import read_tensors
from magictailor.recipe import Recipe
from magictailor.training.checkpoint import LORA_FILE, RUN_FILE, STATE_FILE, WORDS_FILE
from tiny import backbone, in_child, pair, recipe

STEPS = ("phases.0.steps=4", "phases.1.steps=4")
PLANS = {
    "magictailor": recipe(*STEPS),
    "reference": recipe(*STEPS, method="magictailor-reference"),
    "last-step": recipe(*STEPS, "phases.1.preserve.regulariser=last-step", "micro_batch=1"),
    "redraw": recipe(*STEPS, "redraw=3", "micro_batch=1"),
    "balance-only-first": recipe(
        *STEPS, 'phases.0.preserve={"weight": 0.2}', "phases.0.reduce=max", "phases.1.preserve=none"
    ),
}


def work(folder: Path, plan: Recipe, seconds: float, kill_at: int | None = None, kill_in: str = "") -> None:
    """Train; killed after a step, or in the middle of writing the checkpoint or the metrics of that step."""
    train.SAVE_SECONDS = seconds
    step_now = 0

    def die(*args: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def watch(step: int, steps: int, figures: dict[str, float]) -> None:
        nonlocal step_now
        step_now = step
        if step == kill_at and not kill_in:
            die()
        if step == kill_at and kill_in == "checkpoint":
            os.replace = die  # a whole temporary file, not yet renamed
        if step == kill_at and kill_in == "before checkpoint":
            train.State.save = die  # type: ignore[assignment]

    personalize(pair((2, 1)), folder, model=backbone(), recipe=plan, watch=watch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Uninterrupted runs of all plans, each in a process of its own."""
    folder = tmp_path_factory.mktemp("whole")
    for name, plan in PLANS.items():
        assert in_child(lambda name=name, plan=plan: work(folder / name, plan, 1000.0)) == 0
    return folder


def same(folder: Path, other: Path) -> None:
    files = [f for f in (LORA_FILE, WORDS_FILE, "metrics.jsonl") if (other / f).exists()]
    assert len(files) == 3
    for file in files:
        assert (folder / file).read_bytes() == (other / file).read_bytes(), file
    left, right = read_tensors(folder / STATE_FILE), read_tensors(other / STATE_FILE)
    assert left.keys() == right.keys()
    assert any(n.startswith("optimizer") for n in left)
    assert [n for n, v in left.items() if not torch.equal(v, right[n])] == []


@pytest.mark.parametrize(
    ("plan", "seconds", "kills"),
    [
        ("magictailor", 0.0, [1, 6]),
        ("magictailor", 0.0, [3, 4, 5]),  # around the boundary: before, at and after
        ("magictailor", 1000.0, [2, 7]),  # nothing saved but the start: all is done again
        ("reference", 0.0, [4, 5]),
        ("last-step", 0.0, [5, 7]),
        ("balance-only-first", 0.0, [2, 6]),  # the last phase has nothing to preserve, the first has
    ],
)
def test_killed_after_a_step(plan: str, seconds: float, kills: list[int], whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / plan
    for kill in kills:
        # The watch runs before the step is saved: this many steps are done, one fewer is on disk.
        assert in_child(lambda kill=kill: work(folder, PLANS[plan], seconds, kill)) == -signal.SIGKILL
        with safe_open(folder / STATE_FILE, "pt") as file:
            assert int(file.metadata()["step"]) == (kill - 1 if seconds == 0 else 0)
        assert '"finished": false' in (folder / RUN_FILE).read_text()
    assert in_child(lambda: work(folder, PLANS[plan], seconds)) == 0
    same(folder, whole / plan)


@pytest.mark.parametrize("kill_in", ["checkpoint", "before checkpoint"])
@pytest.mark.parametrize("kill", [4, 8])
def test_killed_while_saving(kill_in: str, kill: int, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    plan = PLANS["magictailor"]
    assert in_child(lambda: work(folder, plan, 0.0, kill, kill_in)) == -signal.SIGKILL
    with safe_open(folder / STATE_FILE, "pt") as file:
        assert int(file.metadata()["step"]) == kill - 1
    assert in_child(lambda: work(folder, plan, 0.0)) == 0
    same(folder, whole / "magictailor")


@pytest.mark.parametrize("cut", [b'{"step": 3, "lo', b'{"step": 3, "loss": 1.0}'])
def test_a_line_of_metrics_that_a_kill_cut_short_is_dropped(cut: bytes, whole: Path, tmp_path: Path) -> None:
    folder, plan = tmp_path / "run", PLANS["magictailor"]
    assert in_child(lambda: work(folder, plan, 0.0, 4)) == -signal.SIGKILL
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(cut)
    assert in_child(lambda: work(folder, plan, 0.0)) == 0
    same(folder, whole / "magictailor")


def test_killed_before_the_result_is_written(whole: Path, tmp_path: Path) -> None:
    folder, plan = tmp_path / "run", PLANS["magictailor"]

    def interrupted() -> None:
        train.save_result = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
        work(folder, plan, 0.0)

    assert in_child(interrupted) == -signal.SIGKILL
    assert not (folder / LORA_FILE).exists()
    assert in_child(lambda: work(folder, plan, 0.0)) == 0
    same(folder, whole / "magictailor")


def test_a_finished_run_is_not_run_again(whole: Path) -> None:
    folder = whole / "magictailor"
    before = {p: p.stat().st_mtime_ns for p in (folder / LORA_FILE, folder / STATE_FILE, folder / "metrics.jsonl")}
    steps: list[int] = []
    personalize(
        pair((2, 1)),
        folder,
        model=backbone(),
        recipe=PLANS["magictailor"],
        watch=lambda step, total, figures: steps.append(step),
    )
    assert steps == []
    assert (folder / LORA_FILE).stat().st_mtime_ns == before[folder / LORA_FILE]
    assert (folder / STATE_FILE).stat().st_mtime_ns == before[folder / STATE_FILE]
