"""Commands in processes of their own: pipes, full disks, consoles, leftovers of launchers, kills, two at once."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from hostile.harness import check_line, tree
from magictailor.world.pairs import world_pair, write_pair

COMMAND = [sys.executable, "-m", "magictailor"]
SECONDS = 60  # on a busy machine; a hang is longer


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **dict(options.pop("env", {}))}  # type: ignore[call-overload]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], text=True, errors="replace", check=False, timeout=SECONDS, env=environment, **settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(world_pair(1), tmp_path_factory.mktemp("photos") / "pair")


def test_the_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.1.0\n", "")


@pytest.mark.parametrize("group", [(), ("bench",), ("world",)])
def test_no_command_prints_the_help(group: tuple[str, ...]) -> None:
    done = run(*group)
    assert (done.returncode, done.stderr) == (2, "")
    assert "Usage" in done.stdout


def test_a_reader_that_goes_away_ends_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = run("recipes", stdout=pipe)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_behind_stdout_is_said() -> None:
    with open("/dev/full", "w") as full:
        done = run("recipes", stdout=full)
    assert done.returncode == 1
    check_line(done.stderr)
    assert "No space left" in done.stderr


def test_a_console_without_unicode() -> None:
    done = run("recipes", env={"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"})
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("leftover", "code"),
    [({"RANK": "1"}, 0), ({"WORLD_SIZE": "4"}, 0), ({"RANK": "x", "WORLD_SIZE": "y"}, 0),
     (dict.fromkeys(("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"), "7"), 2)],
)  # fmt: skip
def test_leftovers_of_a_launcher(leftover: dict[str, str], code: int, photos: Path) -> None:
    done = run("pair", photos, env=leftover)
    assert done.returncode == code
    assert ("<" in done.stdout) == (code == 0)


def test_names_that_are_no_utf8_and_pipes(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.safetensors")).write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.safetensors")
    before = tree(tmp_path)
    for name in (os.fsdecode(b"\xff.safetensors"), "pipe.safetensors", ".", "a" * 5000, "\x1b[2Jx"):
        done = run("inspect", tmp_path / name)
        assert done.returncode == 2
        check_line(done.stderr)
    assert tree(tmp_path) == before


def test_a_bug_is_one_line_and_a_file(tmp_path: Path) -> None:
    code = (
        "import magictailor.exports.inspection as m\n"
        "def broken(file): raise ZeroDivisionError('never seen before')\n"
        "m.inspect = broken\n"
        "from magictailor.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "inspect", "x"], capture_output=True, text=True, check=False,
        env={**os.environ, "MAGICTAILOR_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 70
    check_line(done.stderr)
    (details,) = (tmp_path / "bugs").iterdir()
    assert str(details) in done.stderr
    assert "ZeroDivisionError: never seen before" in details.read_text()


STEPS = ("--set", "phases.0.steps=400", "--set", "sampling.preview_every=0")


def waited_for(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path.name} after {SECONDS} seconds"
        time.sleep(0.05)


def test_two_trainings_in_one_folder_and_a_polite_end(photos: Path, tmp_path: Path) -> None:
    """The second one is refused; SIGTERM ends the first one without leftovers; then the folder is free."""
    folder = tmp_path / "run"
    first = subprocess.Popen(
        [*COMMAND, "train", photos, "--output", folder, *STEPS],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        waited_for(folder / "metrics.jsonl")
        second = run("train", photos, "--output", folder, *STEPS)
        assert second.returncode == 2
        check_line(second.stderr)
        assert "another process is working in it" in second.stderr
        first.send_signal(signal.SIGTERM)
        _, error = first.communicate(timeout=SECONDS)
    finally:
        first.kill()
    assert first.returncode == 143
    assert error == "stopped; the same command resumes from the last checkpoint\n"
    assert not [name for name in tree(folder) if name.endswith(".tmp")]
    steps = [line.split(",")[0] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(set(steps)) == len(steps)


def test_a_folder_that_a_kill_left_behind_is_its_own(photos: Path, tmp_path: Path) -> None:
    """Killed while run.json was written: a temporary file is all there is."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / f".run.json.{'0' * 32}.tmp").write_text("{")
    few = ("--set", "phases.0.steps=1", "--set", "phases.1.steps=1", "--set", "sampling.preview_every=0")
    done = run("train", photos, "--output", folder, *few)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(folder.glob(".*.tmp"))


def test_a_hidden_folder_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    abandoned = tmp_path / ".pair-abcdefgh"
    abandoned.mkdir()
    assert run("world", "pair", "--seed", 1, "--output", tmp_path / "pair").returncode == 0
    assert not abandoned.exists()


def _children_of(process: int) -> set[int]:
    """All living processes below it."""
    below: set[int] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == process and fields[0] != "Z":
                child = int(stat.parent.name)
                below |= {child} | _children_of(child)
    return below


def test_a_polite_end_of_the_worlds_training_takes_its_workers_along(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    process = subprocess.Popen(
        [*COMMAND, "world", "train", "--output", folder, "--start", "embedded", "--set", "autoencoder_steps=0",
         "--set", "chunk=10"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + SECONDS
        while not list(folder.glob("bank/*.npz")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        workers = _children_of(process.pid)
        assert len(workers) >= 2
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert (process.returncode, error) == (143, "stopped; the same command resumes from the last checkpoint\n")
    deadline = time.monotonic() + SECONDS
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker is left behind"
        time.sleep(0.1)
    assert not list(folder.rglob(".*.tmp"))
