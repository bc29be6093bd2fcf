"""The same bench by one process, by two of which one is killed, and on Ray, to the byte; the judge is the real one."""

import logging
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from magictailor.common.errors import InputError
from magictailor.evaluate.bench import run_bench
from magictailor.evaluate.executors.context import Context
from magictailor.evaluate.executors.processes import LocalProcesses
from magictailor.evaluate.resources import Resources
from magictailor.evaluate.sources import sources
from magictailor.evaluate.spec import Spec
from magictailor.evaluate.stores import FolderStore
from magictailor.evaluate.trials import Unit
from magictailor.evaluate.workers import Workers


def plan(folder: Path) -> Spec:
    """Without attention, as worker processes read the tiny base's maps at the size of real ones."""
    settings = ["phases.0.steps=1", "phases.1.steps=1", "sampling.steps=2", "train.0.rank=2"]
    settings += ["phases.0.attention=none", "phases.1.attention=none"]
    return Spec(
        model=str(folder),
        pairs=("world:6+2",),
        prompts=("a photo of {concept} with {component}",),
        settings=tuple(settings),
        metrics=("judge",),
    )


def contents(home: Path) -> dict[str, bytes]:
    """Scores and images; not costs."""
    found = [path for kind in ("results", "images") for path in sorted((home / kind).rglob("*.*"))]
    return {str(path.relative_to(home)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def alone(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home, spec = tmp_path_factory.mktemp("bench") / "alone", plan(tiny_folder)
    run_bench(spec, sources(spec, home), home, workers=Workers(threads=1))
    assert len(contents(home)) == 2 * 5 + 2 * (
        2 * 2 + 3
    )  # results; images of two rows with two seeds and of three with one
    return home


def test_of_two_processes_one_is_killed_in_mid_unit(
    alone: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, killed = plan(tiny_folder), list[str]()

    class Killing(LocalProcesses):
        def submit(self, unit: Unit) -> None:
            super().submit(unit)
            if unit.kind == "train" and unit.trial.method == "magictailor" and not killed:
                killed.append(unit.key)
                number = next(number for _, (u, number) in self._at_work.items() if u == unit)
                (process,) = self._pools[number]._processes.values()
                os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr("magictailor.evaluate.bench.LocalProcesses", Killing)
    run_bench(spec, sources(spec, tmp_path), tmp_path / "two", workers=Workers(2, threads=1))
    assert killed == ["train world-6/magictailor"]
    assert contents(tmp_path / "two") == contents(alone)


def test_workers_say_nothing_and_put_their_things_away(capfd: pytest.CaptureFixture[str]) -> None:
    executor = LocalProcesses(Context(Spec(pairs=("world:6",)), FolderStore(Path())), 1)
    (pool,) = executor._pools
    for job in (pool.submit(logging.warning, "noise"), pool.submit(warnings.warn, "noise")):
        job.result()
    (process,) = pool._processes.values()
    executor.close()
    assert process.exitcode == 0  # not ended by a signal, which leaves semaphores behind
    assert capfd.readouterr().err == ""


def test_a_worker_is_quiet_before_it_imports_a_library_that_talks() -> None:
    code = "import magictailor.common.workers, sys; print({'torch', 'diffusers', 'bitsandbytes'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_on_ray(alone: Path, tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    spec = plan(tiny_folder)
    run_bench(spec, sources(spec, tmp_path), tmp_path / "ray", workers=Workers(ray="local", threads=1))
    assert contents(tmp_path / "ray") == contents(alone)


def test_without_ray_there_is_one_line(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    spec = plan(tiny_folder)
    with pytest.raises(InputError, match=r"pip install 'magictailor\[ray\]'"):
        run_bench(spec, sources(spec, tmp_path), tmp_path / "ray", workers=Workers(ray="local"))


@pytest.mark.parametrize(
    ("workers", "words"),
    [
        ({"count": 0}, "workers 0"),
        ({"threads": 0}, "threads 0"),
        ({"count": 2, "ray": "auto"}, "no effect"),
        ({"card_gb": -1}, "card_gb"),
    ],
)
def test_bad_workers_are_refused(workers: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Workers(**workers)


def test_units_share_a_card_and_the_scarcest_resource_limits_them() -> None:
    node = {"CPU": 16.0, "GPU": 1.0, "memory": 100e9}
    assert Resources(cores=2, card=0.1, memory=10**9).fitting(node) == 8
    assert Resources(cores=1, card=0.1, memory=10**9).fitting(node) == 10
    assert Resources(cores=1, card=0.0, memory=30 * 10**9).fitting(node) == 3
    assert Resources(cores=1, card=0.5).fitting({"CPU": 16.0}) == 0
