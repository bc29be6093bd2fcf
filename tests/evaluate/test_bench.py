"""A bench is done once, grows, survives kills to the byte, and is shared without a server."""

import json
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

import magictailor.backbones.stable_diffusion as family
import magictailor.evaluate.metrics as metrics
import magictailor.evaluate.metrics.judging as judging
import magictailor.evaluate.metrics.quality as quality
from magictailor import InputError, Run, RunError
from magictailor.common.events import Event, Notice, Progress
from magictailor.evaluate import work
from magictailor.evaluate.bench import run_bench
from magictailor.evaluate.design import fix_design, read_design
from magictailor.evaluate.journal import read_progress
from magictailor.evaluate.metrics.scorer import Score, ScoredImage, Target
from magictailor.evaluate.records import all_rows, first_seed, scorer_models, write_rows
from magictailor.evaluate.sources import sources
from magictailor.evaluate.spec import Spec, read_spec
from magictailor.evaluate.status import bench_status
from magictailor.evaluate.stores import FolderStore
from magictailor.generation.images import image_name
from magictailor.world.judge import Judge
from tiny import Call, in_child

FEW = ("phases.0.steps=1", "sampling.steps=2", "train.0.rank=2")


class Brightness:
    """Two metrics of each image, without a model."""

    model = "mean and spread of pixels"
    higher_is_better: ClassVar = {"mean": True, "spread": False}

    def prepare(self) -> None: ...

    def score(self, target: Target, images: Sequence[ScoredImage]) -> Iterator[Score]:
        for scored in images:
            pixels = np.asarray(scored.image, float)
            yield Score(scored.prompt, scored.seed, "mean", pixels.mean())
            yield Score(scored.prompt, scored.seed, "spread", pixels.std())


@pytest.fixture(scope="module", autouse=True)
def quick_scorers() -> Iterator[None]:
    """One more scorer, and a judge with random weights: how a bench handles scores does not depend on their values."""
    factories = metrics._factories
    torch.manual_seed(0)
    network = Judge().eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_factories", lambda *given: {**factories(*given), "brightness": Brightness})
        patch.setattr(judging, "judge_network", lambda: network)
        patch.setattr(quality, "judge_network", lambda: network)
        yield


@pytest.fixture(autouse=True)
def small_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "MAP_SIDE", 4)


def spec(folder: Path, **more: object) -> Spec:
    plan = {
        "prompts": ["a photo of {concept} with {component}"],
        "seeds": 2,
        "methods": ["magictailor"],
        "settings": [*FEW, "phases.1.steps=1"],
        "metrics": ["brightness"],
        "anchors": False,
    }
    return Spec.model_validate({"model": str(folder), "pairs": ["world:6+2"], **plan, **more})


def contents(home: Path) -> dict[str, bytes]:
    """Scores and images; not costs."""
    return {
        str(p.relative_to(home)): p.read_bytes()
        for kind in ("results", "images")
        for p in sorted((home / kind).rglob("*.*"))
    }


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted bench, made in a process of its own."""
    home = tmp_path_factory.mktemp("bench") / "whole"
    plan = spec(tiny_folder)

    def work() -> None:
        family.MAP_SIDE = 4
        run_bench(plan, sources(plan, home), home)

    assert in_child(work) == 0
    return home


def test_finished_work_is_not_done_again_and_a_bench_grows(
    whole: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "bench"
    shutil.copytree(whole, home)
    before = {p: p.stat().st_mtime_ns for p in home.rglob("*.png")}
    assert len(all_rows(home)) == 2 * 2 * 2  # pairs, seeds, metrics
    plan = spec(tiny_folder)
    monkeypatch.setattr("magictailor.evaluate.work.train", lambda *_, **__: pytest.fail("trained again"))
    run_bench(plan, sources(plan, home), home)
    larger = spec(tiny_folder, prompts=[*plan.prompts, "{concept} with {component}, on the beach"])
    assert set(bench_status(larger, sources(larger, home), home).states.values()) == {"2 to score"}
    run_bench(larger, sources(larger, home), home)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(all_rows(home)) == 2 * 4 * 2
    assert set(bench_status(larger, sources(larger, home), home).states.values()) == {"done"}
    other = spec(tiny_folder, settings=[*FEW, "phases.1.steps=2"])
    with pytest.raises(InputError, match="another setting"):
        run_bench(other, sources(other, home), home)


def test_a_new_scorer_or_model_scores_existing_images_and_keeps_other_rows(
    whole: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "bench"
    shutil.copytree(whole, home)
    monkeypatch.setattr("magictailor.evaluate.work.train", lambda *_, **__: pytest.fail("trained again"))
    old = all_rows(home)
    more = spec(tiny_folder, metrics=["brightness", "judge"])
    assert set(bench_status(more, sources(more, home), home).states.values()) == {"2 to score"}
    run_bench(more, sources(more, home), home)
    rows = all_rows(home)
    assert [row for row in rows if row.scorer == "brightness"] == old
    assert {row.metric for row in rows if row.scorer == "judge"} >= {"features"}
    assert set(scorer_models(home)) == {"brightness", "judge"}
    monkeypatch.setattr("magictailor.evaluate.metrics.judging.judge_name", lambda: "another judge")
    assert set(bench_status(more, sources(more, home), home).states.values()) == {"2 to score"}
    run_bench(more, sources(more, home), home)
    assert scorer_models(home)["judge"] == "another judge"
    assert len(all_rows(home)) == len(rows)


def test_results_alone_are_enough_until_a_new_image_is_needed(whole: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """Without runs and images nothing is done again. A new prompt trains again and keeps the old scores."""
    home, plan = tmp_path / "bench", spec(tiny_folder)
    for folder in ("results", "costs"):
        shutil.copytree(whole / folder, home / folder)
    run_bench(plan, sources(plan, home), home)
    assert not (home / "runs").exists()
    one = plan.model_copy(
        update={"pairs": ("world:6",), "prompts": (*plan.prompts, "{concept} with {component}, at night")}
    )
    run_bench(one, sources(one, home), home)
    rows = [row for row in all_rows(home) if row.pair == "world-6"]
    assert {row.prompt for row in rows if "at night" in row.prompt}
    assert set(all_rows(whole)) <= set(all_rows(home))


def test_a_prompts_seeds_are_generated_in_batches(
    whole: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seeds exist, four are needed, a batch has three: batches of seeds 0 .. 2 and of seed 3."""
    home, batches, generate = tmp_path / "bench", [], Run.generate
    shutil.copytree(whole, home)
    before = {p: p.read_bytes() for p in home.rglob("*.png")}

    def generating(run: Run, prompt: str, *, number: int, seed: int, batch: int) -> Any:
        batches.append((seed, batch))
        return generate(run, prompt, number=number, seed=seed, batch=batch)

    monkeypatch.setattr(Run, "generate", generating)
    plan = spec(tiny_folder, pairs=["world:6"], seeds=4, batch=3)
    run_bench(plan, sources(plan, home), home)
    first = first_seed("world-6")
    assert batches == [(first, 3), (first + 3, 1)]
    assert first != first_seed("world-7")  # pairs do not share their noise
    assert {p: p.read_bytes() for p in before} == before
    assert len([row for row in all_rows(home) if row.pair == "world-6"]) == 4 * 2


def test_a_methods_own_settings(tiny_folder: Path) -> None:
    plan = spec(tiny_folder, methods=["magictailor", "clic"], method_settings={"clic": ["seed=3"]})
    assert plan.settings_of("clic") == [*plan.settings, "seed=3"]
    assert plan.settings_of("magictailor") == list(plan.settings)


def test_variants_are_methods_of_a_bench_alone(tiny_folder: Path, tmp_path: Path) -> None:
    plan = spec(
        tiny_folder,
        pairs=["world:6"],
        methods=["magictailor", "rank-1"],
        variants={"rank-1": ["magictailor", "train.0.rank=1"]},
    )
    run_bench(plan, sources(plan, tmp_path), tmp_path)
    runs = [json.loads((tmp_path / "runs" / "world-6" / name / "run.json").read_text()) for name in plan.methods]
    assert [run["recipe"]["train"][0]["rank"] for run in runs] == [2, 1]
    assert {row.method for row in all_rows(tmp_path)} == {"magictailor", "rank-1"}


def test_methods_that_only_generate_otherwise_share_their_training(tiny_folder: Path, tmp_path: Path) -> None:
    """Their images are those of trainings of their own, to the byte."""
    variants = {
        "guided": ["magictailor", "sampling.guidance=9"],
        "led": ["magictailor", "sampling.emphasis=1"],
        "rank-1": ["magictailor", "train.0.rank=1", "sampling.guidance=9"],
    }
    plan = spec(tiny_folder, pairs=["world:6"], methods=["magictailor", *variants], variants=variants, training_seeds=2)
    home = tmp_path / "shared"
    run_bench(plan, sources(plan, home), home)
    assert {p.name for p in (home / "runs" / "world-6").iterdir()} == {
        "magictailor",
        "magictailor@1",
        "rank-1",
        "rank-1@1",
    }
    assert "; emphasis 1;" in (home / "costs" / "world-6" / "led.json").read_text()
    found = contents(home)
    for method in ("guided", "led"):
        alone, own = spec(tiny_folder, pairs=["world:6"], methods=[method], variants=variants), tmp_path / method
        run_bench(alone, sources(alone, own), own)
        made = {name: data for name, data in contents(own).items() if name.endswith(".png")}
        assert len(made) == 2
        assert all(found[name] == data for name, data in made.items())
        assert all(found[name.replace(method, "magictailor")] != data for name, data in made.items())


def test_without_the_run_it_shares_a_method_trains_it_again(tiny_folder: Path, tmp_path: Path) -> None:
    plan = spec(tiny_folder, pairs=["world:6"])
    run_bench(plan, sources(plan, tmp_path), tmp_path)
    shutil.rmtree(tmp_path / "runs")
    led = {"led": ["magictailor", "sampling.guidance=9"]}
    larger = spec(tiny_folder, pairs=["world:6"], methods=["magictailor", "led"], variants=led)
    run_bench(larger, sources(larger, tmp_path), tmp_path)
    assert (tmp_path / "runs" / "world-6" / "magictailor" / "run.json").exists()
    assert {row.method for row in all_rows(tmp_path)} == {"magictailor", "led"}


def test_scorers_without_their_models_are_left_out_with_the_fix(whole: Path, tiny_folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "bench"
    shutil.copytree(whole, home)
    plan = spec(tiny_folder, metrics=["brightness", "clip-t", "dreamsim"], weights={"clip": "nobody/nothing"})
    events: list[Event] = []
    run_bench(plan, sources(plan, home), home, events.append)
    first, second = (event.text for event in events if isinstance(event, Notice) and event.warning)
    assert "clip-t is left out" in first
    assert "hf download nobody/nothing" in first
    assert "pip install dreamsim" in second
    assert {row.scorer for row in all_rows(home)} == {"brightness"}


def test_killed_workers_leave_the_same_bytes(whole: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """Killed while training, while generating, and before the scores are written; started again each time."""
    plan, home = spec(tiny_folder), tmp_path / "bench"

    def run(kill_at: str) -> None:
        family.MAP_SIDE = 4

        def die(*_: object, **__: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def listen(event: Event) -> None:
            if kill_at == "training" and isinstance(event, Progress) and event.metrics:
                die()

        save, saved = work.save_png, []

        def saving(image: Image.Image, path: Path, metadata: dict[str, str]) -> None:
            if kill_at == "generating" and saved:
                die()
            save(image, path, metadata)
            saved.append(path)

        work.save_png = saving  # type: ignore[assignment]
        if kill_at == "scoring":
            work.write_rows = die  # type: ignore[assignment]
        run_bench(plan, sources(plan, home), home, listen)

    for kill_at in ("training", "generating", "scoring"):
        assert in_child(lambda kill_at=kill_at: run(kill_at)) == -signal.SIGKILL
    assert in_child(lambda: run("never")) == 0
    assert contents(home) == contents(whole)
    assert len(contents(whole)) == 2 + 4


def test_a_bench_at_a_url_is_the_same_as_in_a_folder(whole: Path, tiny_folder: Path, tmp_path: Path) -> None:
    import fsspec

    system, plan = fsspec.filesystem("memory"), spec(tiny_folder)
    run_bench(plan, sources(plan, tmp_path), "memory://bench")
    system.get("/bench", str(tmp_path / "copy"), recursive=True)
    assert contents(tmp_path / "copy") == contents(whole)
    assert set(bench_status(plan, sources(plan, tmp_path), "memory://bench").states.values()) == {"done"}
    with pytest.raises(InputError, match="memorandum"):
        run_bench(plan, sources(plan, tmp_path), "memorandum://bench")


def test_one_broken_unit_does_not_stop_the_others(
    whole: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "bench"
    shutil.copytree(whole, home)
    (home / "costs" / "world-6" / "magictailor.json").write_text("{")
    next((home / "images" / "world-7" / "magictailor").glob("*.png")).write_bytes(b"no picture")
    plan = spec(tiny_folder, metrics=["brightness", "judge"])
    events: list[Event] = []
    with pytest.raises(InputError, match="damaged"):
        run_bench(plan, sources(plan, home), home, events.append)
    (home / "costs" / "world-6" / "magictailor.json").unlink()
    with pytest.raises(RunError, match="1 of 6 units failed: score world-7"):
        run_bench(plan, sources(plan, home), home, events.append)
    assert ["not a readable image" in event.text for event in events if isinstance(event, Notice)] == [True]
    progress = read_progress(home)
    assert progress is not None
    assert (progress.ended, list(progress.failed)) == (True, ["score world-7/magictailor"])
    assert {row.scorer for row in all_rows(home) if row.pair == "world-6"} == {"brightness", "judge"}


def test_another_spec_in_one_folder_takes_no_rows_away(whole: Path, tiny_folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "bench"
    shutil.copytree(whole, home)
    before = all_rows(home)
    other = spec(tiny_folder, prompts=["{concept} with {component}, in the snow"])
    run_bench(other, sources(other, home), home)
    assert set(before) < set(all_rows(home))
    shutil.rmtree(home / "images")
    third = spec(tiny_folder, prompts=["{concept} with {component}, on the beach"])
    run_bench(third, sources(third, home), home)
    assert set(before) < set(all_rows(home))


def test_a_report_is_complete_and_opens_offline(whole: Path, tmp_path: Path, call: Call) -> None:
    result = call("bench", "report", whole, "--output", tmp_path / "report.html")
    assert result.code == 0
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4  # two pairs, truth and one method
    assert "http" not in page
    assert "magictailor" in page
    result = call("bench", "report", whole, "--output", tmp_path / "other.html", "--against", "clic")
    assert (result.code, "--against clic" in result.err) == (2, True)
    assert not (tmp_path / "other.html").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("costs/world-6/magictailor.json", b'{"seconds": "long"}', "seconds: 'long'"),
        ("costs/world-6/magictailor.json", b'{"generated": [1, 2]}', "generated"),
        ("costs/world-6/magictailor.json", b"[]", "damaged"),
        ("costs/world-6/magictailor.json", b"\xff\xfe", "damaged"),
        ("results/world-6/magictailor.parquet", b"PAR1 and no more", "damaged"),
        ("results/world-6/magictailor.parquet", b"", "damaged"),
        ("progress.json", b'{"running": 3}', "damaged"),
        ("progress.json", b"[" * 50_000, "nested too deeply"),
        ("design.json", b'{"primary": "clic"}', "damaged"),
    ],
)
def test_damaged_files_of_a_bench_are_named_in_one_line(
    name: str, content: bytes, words: str, whole: Path, tmp_path: Path, call: Call
) -> None:
    home = tmp_path / "bench"
    shutil.copytree(whole, home)
    (home / name).write_bytes(content)
    (tmp_path / "spec.toml").write_text('pairs = ["world:6+2"]\nanchors = false')
    report = ("bench", "report", home, "--output", tmp_path / "report.html")
    command = ("bench", "status", tmp_path / "spec.toml", "--output", home) if name == "progress.json" else report
    result = call(*command)
    assert (result.code, Path(name).name in result.err, words in result.err, result.err.count("\n")) == (
        2,
        True,
        True,
        1,
    ), result
    assert not (tmp_path / "report.html").exists()


def test_a_damaged_picture_is_named_in_one_line(whole: Path, tmp_path: Path, call: Call) -> None:
    home, page, sheet = tmp_path / "bench", tmp_path / "report.html", tmp_path / "figure.png"
    shutil.copytree(whole, home)
    name = image_name(all_rows(home)[0].prompt, first_seed("world-6"))
    picture = home / "images" / "world-6" / "magictailor" / name
    assert picture.exists()
    picture.write_text("x")
    for command in (("report", home, "--output", page), ("figure", home, "table-1", "--output", sheet)):
        result = call("bench", *command)
        assert (result.code, f"{picture}: not a readable image" in result.err) == (2, True), result
        assert "delete it and run the bench again" in result.err
    assert not page.exists()
    assert not sheet.exists()


def test_no_scorer_can_write_such_a_score(
    whole: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "bench"
    shutil.copytree(whole, home)
    monkeypatch.setattr(Brightness, "model", "a broken one")
    monkeypatch.setattr(
        Brightness, "score", lambda _, target, images: (Score(i.prompt, i.seed, "mean", float("inf")) for i in images)
    )
    plan = spec(tiny_folder)
    with pytest.raises(RunError, match=r"mean of 'a photo of .* is inf"):
        run_bench(plan, sources(plan, home), home)
    assert np.isfinite([row.value for row in all_rows(home)]).all()


def test_without_pyarrow_nothing_begins(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    plan = spec(tiny_folder)
    with pytest.raises(InputError, match=r"pip install 'magictailor\[bench\]'"):
        run_bench(plan, sources(plan, tmp_path), tmp_path / "bench")
    assert not (tmp_path / "bench").exists()


def test_a_primary_endpoint_cannot_be_changed_once_it_was_named(tiny_folder: Path, tmp_path: Path) -> None:
    """A spec without one, such as further ablations, keeps it."""

    def named(metric: str) -> Spec:
        return spec(
            tiny_folder,
            methods=["magictailor", "clic"],
            primary={"method": "clic", "against": "magictailor", "metric": metric},
        )

    store = FolderStore(tmp_path)
    for plan, pairs in ((named("identity"), 24), (named("identity"), 30), (spec(tiny_folder), 2)):
        fix_design(plan, store, tmp_path, pairs)
        found = read_design(tmp_path)
        assert found is not None
        assert found.primary is not None
        assert (str(found.primary), found.primary.beforehand, found.pairs) == (
            "identity of clic against magictailor", True, 24,
        )  # fmt: skip
    with pytest.raises(InputError, match="was named on"):
        fix_design(named("text"), store, tmp_path, 24)


def test_contrasts_that_are_added_to_scores_are_not_called_beforehand(tiny_folder: Path, tmp_path: Path) -> None:
    def named(*metrics: str) -> Spec:
        contrasts = [{"method": "clic", "against": "magictailor", "metric": metric} for metric in metrics]
        return spec(tiny_folder, methods=["magictailor", "clic"], contrasts=contrasts)

    store = FolderStore(tmp_path)
    fix_design(named("identity"), store, tmp_path, 1)
    write_rows(tmp_path / "results" / "a" / "m.parquet", [], {})
    fix_design(named("text", "identity"), store, tmp_path, 1)
    found = read_design(tmp_path)
    assert found is not None
    assert [(c.metric, c.beforehand) for c in found.contrasts] == [("identity", True), ("text", False)]


def test_training_seeds_are_trials_of_their_own_on_the_first_pairs(tiny_folder: Path, tmp_path: Path) -> None:
    plan = spec(tiny_folder, training_seeds=2, repeated_pairs=1, prompts=["a photo of {concept} with {component}"])
    run_bench(plan, sources(plan, tmp_path), tmp_path)
    rows = all_rows(tmp_path)
    assert {(row.pair, row.training_seed) for row in rows} == {("world-6", 0), ("world-6", 1), ("world-7", 0)}
    assert (tmp_path / "results" / "world-6" / "magictailor@1.parquet").exists()
    runs = [
        json.loads((tmp_path / "runs" / "world-6" / name / "run.json").read_text())
        for name in ("magictailor", "magictailor@1")
    ]
    assert [run["recipe"]["seed"] for run in runs] == [0, 1]
    first, second = (
        {
            (r.prompt, r.seed): r.value
            for r in rows
            if r.pair == "world-6" and r.training_seed == t and r.metric == "mean"
        }
        for t in (0, 1)
    )
    assert first.keys() == second.keys()  # the same noise of the images
    assert first != second


def test_anchors_are_drawn_and_nothing_is_trained_for_them(tiny_folder: Path, tmp_path: Path) -> None:
    plan = spec(tiny_folder, pairs=["world:6"], anchors=True, metrics=["judge"])
    run_bench(plan, sources(plan, tmp_path), tmp_path)
    names = {path.name for path in (tmp_path / "images" / "world-6").iterdir()}
    assert names == {"magictailor", "truth", "owner", "captions", "nothing-transferred"}
    assert [path.name for path in (tmp_path / "runs" / "world-6").iterdir()] == ["magictailor"]
    counts = {name: len(list((tmp_path / "images" / "world-6" / name).glob("*.png"))) for name in names}
    assert counts == {"magictailor": 2, "captions": 2, "truth": 1, "owner": 1, "nothing-transferred": 1}


def test_the_commands(whole: Path, tmp_path: Path, call: Call) -> None:
    result = call("bench", "table", whole, "--format", "markdown")
    assert result.code == 0
    assert "magictailor" in result.out
    for arguments, words in (((whole, "--format", "word"), "--format word"), ((tmp_path,), "no finished unit")):
        result = call("bench", "table", *arguments)
        assert (result.code, words in result.err) == (2, True)
    result = call("bench", "claims", whole)
    assert (result.code, "no claim" in result.err) == (2, True)
    path = tmp_path / "spec.toml"
    path.write_text(
        'pairs = ["world:6+2"]\nprompts = ["a photo of {concept} with {component}"]\nmetrics = ["brightness"]'
    )
    result = call("bench", "status", path, "--output", whole, "--all")
    assert "10 trials: 2 done, 8 waiting" in result.out
    assert "the last run has ended: 6 of 6 units done, 0 failed" in result.out
    assert result.out.count("\nwaiting ") == 8
    assert read_spec(path).seeds == 2
    assert np.isfinite([row.value for row in all_rows(whole)]).all()
