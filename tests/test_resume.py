"""A killed run goes on as if nothing had happened: same weights, same words, same metrics, bit for bit."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import magictailor.training.loop as loop
from magictailor import ask
from magictailor.cli import main
from magictailor.common.errors import InputError, RunStopped
from magictailor.common.events import Event, Listener, Progress, ignore
from magictailor.common.tensors import read_metadata, read_tensors
from magictailor.recipe import Recipe
from magictailor.training.checkpoint import State
from magictailor.training.metrics import read_metrics
from magictailor.training.requests import FOLDER, RunRequest
from magictailor.training.run_folder import (
    LORA_FILE,
    RUN_FILE,
    STATE_FILE,
    WORDS_FILE,
    checkpoint_folder,
    finished_run,
    kept_steps,
)
from tiny import backbone, in_child, pair, recipe, train

STEPS = ("phases.0.steps=4", "phases.1.steps=4")
PLANS = {
    "magictailor": recipe(*STEPS),
    "reference": recipe(*STEPS, method="magictailor-reference"),
    "last-step": recipe(*STEPS, "phases.1.preserve.regulariser=last-step", "optimisation.micro_batch=1"),
    "redraw": recipe(*STEPS, "data.resample_every=3", "optimisation.micro_batch=1"),
    "long": recipe("phases.0.steps=15", "phases.1.steps=15"),
    "balance-only-first": recipe(
        *STEPS, 'phases.0.preserve={"weight": 0.2}', "phases.0.reduce=max", "phases.1.preserve=none"
    ),
}


def work(folder: Path, plan: Recipe, seconds: float, listen: Listener = ignore) -> None:
    """Train, with a checkpoint after so many seconds."""
    loop.SAVE_SECONDS = seconds
    train(pair((2, 1)), folder, model=backbone(), recipe=plan, listen=listen)


def die(*args: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(folder: Path, plan: Recipe, seconds: float, at: int, during: str = "step") -> int:
    """Train in a process that is killed after step ``at``, or while it saves that step; its exit code."""

    def listen(event: Event) -> None:
        if not isinstance(event, Progress) or event.done != at:
            return
        match during:
            case "step":
                die()
            case "checkpoint":
                os.replace = die  # a whole temporary file, not yet renamed
            case "before checkpoint":
                State.save = die  # type: ignore[assignment]

    return in_child(lambda: work(folder, plan, seconds, listen))


def saved_step(folder: Path) -> int:
    return int(read_metadata(folder / STATE_FILE)["step"])


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
        # Listeners hear of a step before it is saved: this many steps are done, one fewer is in the checkpoint.
        assert killed(folder, PLANS[plan], seconds, kill) == -signal.SIGKILL
        assert saved_step(folder) == (kill - 1 if seconds == 0 else 0)
        assert [row["step"] for row in read_metrics(folder)] == list(range(kill))  # all that were done
        assert '"finished": false' in (folder / RUN_FILE).read_text()
    assert in_child(lambda: work(folder, PLANS[plan], seconds)) == 0
    same(folder, whole / plan)


@pytest.mark.parametrize("during", ["checkpoint", "before checkpoint"])
@pytest.mark.parametrize("kill", [4, 8])
def test_killed_while_saving(during: str, kill: int, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    plan = PLANS["magictailor"]
    assert killed(folder, plan, 0.0, kill, during) == -signal.SIGKILL
    assert saved_step(folder) == kill - 1
    assert in_child(lambda: work(folder, plan, 0.0)) == 0
    same(folder, whole / "magictailor")


@pytest.mark.parametrize("cut", [b'{"step": 3, "lo', b'{"step": 3, "loss": 1.0}'])
def test_a_line_of_metrics_that_a_kill_cut_short_is_dropped(cut: bytes, whole: Path, tmp_path: Path) -> None:
    folder, plan = tmp_path / "run", PLANS["magictailor"]
    assert killed(folder, plan, 0.0, 4) == -signal.SIGKILL
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(cut)
    assert in_child(lambda: work(folder, plan, 0.0)) == 0
    same(folder, whole / "magictailor")


def test_killed_before_the_result_is_written(whole: Path, tmp_path: Path) -> None:
    folder, plan = tmp_path / "run", PLANS["magictailor"]

    def interrupted() -> None:
        loop.save_result = die
        work(folder, plan, 0.0)

    assert in_child(interrupted) == -signal.SIGKILL
    assert not (folder / LORA_FILE).exists()
    assert in_child(lambda: work(folder, plan, 0.0)) == 0
    same(folder, whole / "magictailor")


def test_a_finished_run_is_not_run_again(whole: Path) -> None:
    folder = whole / "magictailor"
    before = {p: p.stat().st_mtime_ns for p in (folder / LORA_FILE, folder / STATE_FILE, folder / "metrics.jsonl")}
    events: list[Event] = []
    train(pair((2, 1)), folder, model=backbone(), recipe=PLANS["magictailor"], listen=events.append)
    assert events == []
    assert (folder / LORA_FILE).stat().st_mtime_ns == before[folder / LORA_FILE]
    assert (folder / STATE_FILE).stat().st_mtime_ns == before[folder / STATE_FILE]


# --- requests of another process


def asked_meanwhile(folder: Path, request: RunRequest, steps: int, training: Callable[[], object]) -> int:
    """The exit code of a training, which a process of its own asks for something once ``steps`` steps are done."""

    def wait_and_ask() -> None:
        deadline = time.monotonic() + 120
        while not (folder / "metrics.jsonl").exists() or len(read_metrics(folder)) < steps:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        ask(folder, request)

    asking = os.fork()
    if asking == 0:
        os._exit(in_child(wait_and_ask))
    code = in_child(training)
    assert os.waitstatus_to_exitcode(os.waitpid(asking, 0)[1]) == 0
    return code


def test_a_run_that_was_asked_to_stop_goes_on_to_the_byte(whole: Path, tmp_path: Path) -> None:
    folder, plan = tmp_path / "run", PLANS["long"]

    def stopped() -> None:
        with pytest.raises(RunStopped, match=r"stopped after step \d+ of 30, as another process asked"):
            work(folder, plan, 1000.0)

    assert asked_meanwhile(folder, "stop", 3, stopped) == 0
    assert 3 <= saved_step(folder) < plan.steps
    assert [row["step"] for row in read_metrics(folder)] == list(range(saved_step(folder)))
    assert list((folder / FOLDER).iterdir()) == []
    assert in_child(lambda: work(folder, plan, 1000.0)) == 0
    same(folder, whole / "long")


def test_the_command_line_stops_with_code_130(tiny_folder: Path, tmp_path: Path) -> None:
    images = tmp_path / "pair"
    (images / "masks").mkdir(parents=True)
    for number, sample in enumerate(pair().samples):
        name = f"{number}_{sample.label}_1.png"
        sample.references[0].image.save(images / name)
        sample.references[0].mask.save(images / "masks" / name)
    folder = tmp_path / "run"
    settings = ["phases.0.steps=15", "phases.1.steps=15", "sampling.preview_every=0", "train.0.rank=2"]
    chosen = [text for setting in settings for text in ("--set", setting)]

    def command_line() -> None:
        sys.argv = ["magictailor", "train", str(images), "--output", str(folder), "--model", str(tiny_folder), *chosen]
        main()

    assert asked_meanwhile(folder, "stop", 2, command_line) == 130
    assert 2 <= saved_step(folder) < 30
    assert '"finished": false' in (folder / RUN_FILE).read_text()


@pytest.mark.parametrize("asked", ["checkpoint", "preview"])
def test_a_checkpoint_or_a_preview_on_request_changes_nothing(asked: RunRequest, whole: Path, tmp_path: Path) -> None:
    """It is written after the current step, and the run goes on."""
    folder, plan = tmp_path / "run", PLANS["long"]
    seen = tmp_path / "events.jsonl"

    def listen(event: Event) -> None:
        with seen.open("a") as file:
            file.write(json.dumps([type(event).__name__, getattr(event, "step", None)]) + "\n")

    assert asked_meanwhile(folder, asked, 3, lambda: work(folder, plan, 1000.0, listen)) == 0
    events = [json.loads(line) for line in seen.read_text().splitlines()]
    wanted = {"checkpoint": "CheckpointSaved", "preview": "PreviewSaved"}[asked]
    between = [step for name, step in events if name == wanted and step not in (0, plan.steps)]
    assert len(between) == 1
    assert between[0] >= 3
    assert kept_steps(folder) == (between if asked == "checkpoint" else [])
    if asked == "preview":
        names = sorted(path.name for path in (folder / "previews").iterdir())
        assert names == [f"{between[0]:06d}-{number}.png" for number in range(3)]
    assert list((folder / FOLDER).iterdir()) == []
    same(folder, whole / "long")


def test_kept_checkpoints_are_runs_of_their_own_and_survive_a_kill(whole: Path, tmp_path: Path) -> None:
    plan = recipe(*STEPS, "sampling.keep_every=3")
    folder = tmp_path / "run"
    assert killed(folder, plan, 1000.0, at=7) == -signal.SIGKILL
    assert kept_steps(folder) == [3, 6]
    before = {step: contents(checkpoint_folder(folder, step)) for step in (3, 6)}
    work(folder, plan, 1000.0)
    assert {step: contents(checkpoint_folder(folder, step)) for step in (3, 6)} == before
    same(folder, whole / "magictailor")
    shorter = tmp_path / "shorter"
    work(shorter, recipe(*STEPS[:1], "phases.1.steps=1", "sampling.keep_every=3"), 1000.0)  # the same first steps
    assert contents(checkpoint_folder(shorter, 3)) == before[3] != before[6]
    kept = checkpoint_folder(folder, 6)
    assert [len(list(read_tensors(kept / name))) for name in (LORA_FILE, WORDS_FILE)] == [
        len(list(read_tensors(folder / name))) for name in (LORA_FILE, WORDS_FILE)
    ]
    assert finished_run(kept)[1].words == finished_run(folder)[1].words


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (LORA_FILE, WORDS_FILE)}


def test_what_cannot_be_asked_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the run is finished"):
        ask(whole / "magictailor", "stop")
    with pytest.raises(InputError, match="not a run"):
        ask(tmp_path, "stop")
    with pytest.raises(InputError, match="request pause: unknown; choose one of stop, preview, checkpoint"):
        ask(whole / "magictailor", "pause")  # type: ignore[arg-type]
    assert not (whole / "magictailor" / FOLDER).exists()
