"""Jobs: their states follow from their folders, and they outlive the server and themselves."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from magictailor.common.errors import InputError, RunError
from magictailor.common.tensors import read_tensors
from magictailor.studio.jobs import ExportSpec, GenerateSpec, JobStore, TrainSpec
from magictailor.studio.jobs.job import OUTCOME_FILE, Job, JobOutcome, run_folder, state_of
from magictailor.studio.jobs.store import status_of
from magictailor.studio.live import run_facts
from magictailor.studio.studio import GRIDS, Studio
from magictailor.studio.workspace import Workspace, try_lock

SHORT = (
    "phases.0.steps=4", "phases.1.steps=4", "sampling.steps=2", "sampling.preview_every=0", "sampling.keep_every=4",
    "data.augment.jitter=0",
)  # fmt: skip
EXPORT = ExportSpec(run="00001-train", formats=("kohya",))


def wait(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(Workspace(tmp_path))


def end(store: JobStore, id: str, **fields: object) -> None:
    job = store.status(id).job
    ending = JobOutcome.model_validate({"attempt": job.attempt, **fields})
    (store.folder(id) / OUTCOME_FILE).write_text(ending.model_dump_json())


def test_a_state_follows_from_what_is_wanted_what_ended_and_the_lock() -> None:
    job = Job(id="00001-export", title="x", spec=EXPORT, order=1)
    begun, done = JobOutcome(attempt=1), JobOutcome(attempt=1, outcome="done")
    paused = job.model_copy(update={"wanted": "pause"})
    assert state_of(job, None, False) == "queued"
    assert state_of(job, begun, True) == "running"
    assert state_of(paused, begun, True) == "pausing"
    assert state_of(job, begun, False) == "interrupted"  # the process ended and said nothing
    assert state_of(paused, begun, False) == "interrupted"
    assert state_of(paused, JobOutcome(attempt=1, outcome="stopped"), False) == "paused"
    assert state_of(paused, None, False) == "paused"
    assert state_of(job, done, False) == state_of(paused, done, False) == "done"
    assert state_of(job.model_copy(update={"attempt": 2}), begun, False) == "queued"  # resumed, not begun yet


def test_a_lock_that_is_held_means_running_whatever_the_clock_says(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the clock was set back to 1970
    id = store.add(EXPORT, "one").job.id
    end(store, id)
    with (store.folder(id) / "lock").open("a") as lock:
        assert try_lock(lock.fileno())
        assert store.status(id).state == "running"
    assert store.status(id).state == "interrupted"


def test_actions_are_those_of_the_state(store: JobStore) -> None:
    id = store.add(EXPORT, "one").job.id
    with pytest.raises(InputError, match="is queued"):
        store.act(id, "resume")
    assert store.act(id, "pause").state == "paused"
    assert store.act(id, "resume").state == "queued"
    end(store, id, outcome="failed", message="no")
    assert store.act(id, "retry").state == "queued"
    with pytest.raises(InputError):
        store.act(id, "preview")  # only trainings


def test_twenty_jobs_keep_the_order_that_they_are_given(store: JobStore) -> None:
    ids = [store.add(EXPORT, str(number)).job.id for number in range(20)]
    store.move(ids[19], ids[0])
    store.move(ids[0], None)
    store.move(ids[5], ids[4])
    again = JobStore(store.workspace)  # another server
    queue = [s.job.id for s in sorted(again.statuses(), key=lambda s: s.job.order)]
    assert queue == [ids[19], *ids[1:4], ids[5], ids[4], *ids[6:19], ids[0]]


def test_a_full_disk_leaves_nothing_behind(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="free some space"):
        store.add(EXPORT, "one")
    assert list(store.workspace.jobs.iterdir()) == []


def test_a_job_that_runs_cannot_be_deleted(store: JobStore) -> None:
    id = store.add(EXPORT, "one").job.id
    end(store, id)
    with (store.folder(id) / "lock").open("a") as lock:
        assert try_lock(lock.fileno())
        with pytest.raises(InputError, match="stop it first"):
            store.remove(id)
    store.remove(id)
    assert list(store.statuses()) == []


@pytest.mark.parametrize(
    "changes", [{"model": ""}, {"settings": ["x" * 501]}, {"preset": "96gb"}, {"run": "x"}, {"pair": "../x"}]
)
def test_specifications_are_checked(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainSpec.model_validate({"pair": "a", **changes})
    with pytest.raises(ValidationError, match="20000"):
        GenerateSpec(runs=("a",), prompts=("x",) * 100, number=1000)


def test_one_server_has_a_folder(tmp_path: Path) -> None:
    with Workspace(tmp_path).locked(), pytest.raises(InputError, match="another studio"), Workspace(tmp_path).locked():
        pass


def test_the_grids_of_warnings_are_those_of_the_losses() -> None:
    from magictailor.backbones import load_backbone
    from magictailor.methods import recipe_for
    from magictailor.training.batch import mask_grids

    backbone = load_backbone()
    assert GRIDS["embedded"] == (backbone.size, tuple(mask_grids(backbone, recipe_for("embedded"))))


# --- real trainings, killed


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with Studio(tmp_path_factory.mktemp("studio")) as studio:
        studio.demo_pair()
        yield studio


def result(studio: Studio, id: str) -> dict[str, bytes]:
    run = run_folder(studio.jobs.folder(id))
    names = ("pytorch_lora_weights.safetensors", "words.safetensors", "metrics.jsonl")
    return {name: (run / name).read_bytes() for name in names}


def test_a_training_paused_and_resumed_equals_an_undisturbed_one(studio: Studio) -> None:
    pair = studio.pairs.ids()[0]
    disturbed = studio.submit(TrainSpec(pair=pair, settings=SHORT)).job.id
    metrics = run_folder(studio.jobs.folder(disturbed)) / "metrics.jsonl"
    wait(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= 2)
    studio.pairs.rename(pair, "renamed in the meantime")  # the job has its own copy
    studio.jobs.act(disturbed, "pause")
    wait(lambda: studio.jobs.status(disturbed).state in ("paused", "done"))
    if studio.jobs.status(disturbed).state == "paused":
        studio.jobs.act(disturbed, "resume")
    wait(lambda: studio.jobs.status(disturbed).state == "done")
    undisturbed = studio.submit(TrainSpec(pair=pair, settings=SHORT)).job.id
    wait(lambda: studio.jobs.status(undisturbed).state == "done")
    assert result(studio, disturbed) == result(studio, undisturbed)


def test_what_was_measured_here_is_expected_of_the_next_training(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Depends on the trainings above."""
    pair = studio.pairs.ids()[0]
    train = next(s for s in studio.jobs.statuses() if s.state == "done")
    facts = run_facts(studio.jobs.folder(train.job.id))
    longer = TrainSpec(pair=pair, settings=("phases.0.steps=40", "phases.1.steps=60", *SHORT[2:]))
    found = studio.expect(longer)
    assert found.measured is not None
    assert found.seconds == pytest.approx(facts["seconds"] / 8 * 100, rel=1)  # of the newest such training
    assert found.memory_gb is not None
    assert 0.2 < found.memory_gb < 8
    for other in (
        TrainSpec(pair=pair, settings=(*SHORT, "optimisation.micro_batch=1")),
        TrainSpec(pair=pair, method="clic", settings=()),
        TrainSpec(pair=pair, settings=SHORT, precision="bf16"),
    ):
        unknown = studio.expect(other)
        assert (unknown.measured, unknown.seconds, unknown.memory_gb) == (None, None, None)
        assert unknown.unknown
    monkeypatch.setattr("magictailor.studio.expectation.machine", lambda: "another")
    assert studio.expect(longer).seconds is None


SERVER = """
import sys, time
from magictailor.studio.studio import Studio
with Studio(sys.argv[1]):
    time.sleep(600)
"""


def test_jobs_outlive_a_killed_server_and_their_pictures_stay(studio: Studio) -> None:
    """Depends on the trainings above. The studio's own runner is quiet: its lanes are taken by the other server's jobs."""
    train = next(s.job.id for s in studio.jobs.statuses() if s.state == "done")
    studio.runner.close()
    with pytest.raises(InputError, match="has no checkpoint of step 5"):
        studio.submit(GenerateSpec(runs=(f"{train}@5",), prompts=("<figure> with <hat>",)))
    spec = GenerateSpec(runs=(train,), prompts=("<figure> with <hat>",), number=3, steps=2)
    job = studio.submit(spec).job.id
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(studio.workspace.root)])
    folder = studio.jobs.folder(job)
    wait(lambda: status_of(folder).state == "running")
    server.kill()
    server.wait()
    wait(lambda: status_of(folder).state == "done")
    found = studio.gallery.find("figure")
    assert [row["seed"] for row in found["rows"]] == [2, 1, 0]
    studio.gallery.mark([found["rows"][0]["id"]], deleted=True)
    assert studio.gallery.find()["total"] == 2
    studio.gallery.mark([found["rows"][0]["id"]], deleted=False, favourite=True)
    assert [row["seed"] for row in studio.gallery.find(favourite=True)["rows"]] == [2]


def test_checkpoints_of_one_training_side_by_side(studio: Studio) -> None:
    """Depends on the first trainings, which have kept one after step 4: other pictures of the same seed than at the end."""
    from magictailor.studio.jobs import process

    train = next(s.job.id for s in studio.jobs.statuses() if s.state == "done")
    assert run_facts(studio.jobs.folder(train))["checkpoints"] == [4]
    spec = GenerateSpec(runs=(f"{train}@4", train), prompts=("<hat>",), number=1, steps=2, scheduler="dpm++")
    job = studio.submit(spec)
    assert process.run(studio.jobs.folder(job.job.id), studio.allowed) == 0
    rows = studio.gallery.find(prompts=["<hat>"])["rows"]
    assert [row["run"] for row in rows] == [train, f"{train}@4"]
    end, before = (studio.gallery.file(row["job"], row["name"]).read_bytes() for row in rows)
    assert end != before
    started = studio.submit(TrainSpec(pair=studio.pairs.ids()[0], settings=SHORT, start=f"{train}@4"))
    studio.jobs.remove(started.job.id)


def test_an_export_is_named_after_its_pair(studio: Studio) -> None:
    from magictailor.studio.jobs import process

    train = next(s.job.id for s in studio.jobs.statuses() if s.state == "done")
    job = studio.submit(ExportSpec(run=train, formats=("comfyui",)))
    assert process.run(studio.jobs.folder(job.job.id), studio.allowed) == 0
    ending = studio.jobs.status(job.job.id).ending
    assert ending is not None
    files = [f for f in ending.result["files"] if f.endswith("-hat.safetensors")]
    assert len(files) == 1
    assert files[0].startswith("comfyui/figure-with-hat")
    assert read_tensors(studio.jobs.folder(job.job.id) / "files" / files[0])
