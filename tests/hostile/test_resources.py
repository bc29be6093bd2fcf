"""A hundred commands in processes of their own, given what is no input: how they end, how long and how much they take."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from hostile.harness import check_line, tree
from magictailor.world.pairs import world_pair, write_pair

SECONDS, GIGABYTES = 60.0, 1.5  # on two busy cores; torch alone takes half a gigabyte

# Each command with one argument to be replaced. {new}: an output that does not exist; {pair}: a good pair.
COMMANDS: dict[str, tuple[str, ...]] = {
    "inspect": ("inspect", "{bad}"),
    "pair": ("pair", "{bad}"),
    "train": ("train", "{bad}", "--output", "{new}"),
    "train --lora": ("train", "{pair}", "--output", "{new}", "--lora", "{bad}"),
    "train --start": ("train", "{pair}", "--output", "{new}", "--start", "{bad}"),
    "train --model": ("train", "{pair}", "--output", "{new}", "--model", "{bad}"),
    "masks": ("masks", "{bad}", "--model", "grabcut"),
    "generate": ("generate", "{bad}", "a photo of <a>", "--output", "{new}"),
    "export": ("export", "{bad}", "--output", "{new}"),
    "merge": ("merge", "{bad}", "{bad}", "--output", "{new}"),
    "transfer": ("transfer", "{bad}", "{bad}", "{bad}", "--output", "{new}"),
    "ask": ("ask", "{bad}", "stop"),
    "learning": ("learning", "{bad}", "--output", "{new}.png"),
    "bench run": ("bench", "run", "{bad}", "--output", "{new}"),
    "bench status": ("bench", "status", "{bad}"),
    "study make": ("study", "make", "{bad}", "--output", "{new}"),
}


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _sparse(path: Path) -> Path:
    with path.open("wb") as file:
        file.write((2**40).to_bytes(8, "little"))
        file.truncate(50 * 2**30)
    return path


def _written(content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


def _folder(**files: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.mkdir()
        for name, content in files.items():
            (path / name.replace("_", ".", 1)).write_bytes(content)
        return path

    return make


INPUTS: dict[str, Callable[[Path], Path | str]] = {
    "missing": lambda path: path,
    "pipe": _pipe,
    "sparse": _sparse,
    "foreign": _folder(run_json=b'{"format": 1, "model": 3}', model__index_json=b"[]", bench_toml=b"pairs = 3"),
    "nobody": lambda path: "~nobody-of-that-name/x",
    "escape": lambda path: f"{path}\x1b[2J",
    "long": lambda path: "x" * 5000,
}
CASES = [(command, bad) for command, bad in product(COMMANDS, INPUTS)]


@dataclass(frozen=True)
class Ended:
    code: int
    seconds: float
    gigabytes: float
    text: str


def _peak(process: int) -> float:
    """GiB that it has taken at most; what getrusage says is its parent's where that is larger."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 2**20
    return 0.0


def ended(arguments: list[str], errors: Path) -> Ended:
    began, most = time.monotonic(), 0.0
    with errors.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "magictailor", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err
        )  # fmt: skip
        try:
            while process.poll() is None:
                most = max(most, _peak(process.pid))
                if time.monotonic() - began > SECONDS:
                    process.kill()
                time.sleep(0.02)
        finally:
            process.kill()
    text = errors.read_text("utf-8", "replace")
    return Ended(process.returncode, time.monotonic() - began, most, text)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Ended]:
    work, logs = tmp_path_factory.mktemp("bad"), tmp_path_factory.mktemp("logs")
    pair = write_pair(world_pair(1), work / "pair")
    paths = {name: make(work / name) for name, make in INPUTS.items()}

    def run(number: int) -> Ended:
        command, bad = CASES[number]
        values = {"bad": str(paths[bad]), "pair": str(pair), "new": str(work / f"new-{number}")}
        return ended([part.format(**values) for part in COMMANDS[command]], logs / f"{number}.txt")

    before = tree(work)
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(CASES, pool.map(run, range(len(CASES))), strict=True))
    assert tree(work) == before, "a refusal has written something"
    return found


def test_there_are_a_hundred() -> None:
    assert len(CASES) >= 100


@pytest.mark.slow
def test_each_is_refused_in_one_line(results: dict[tuple[str, str], Ended]) -> None:
    wrong = {}
    for case, result in results.items():
        try:
            assert result.code == 2, (result.code, result.text)
            check_line(result.text)
        except AssertionError as error:
            wrong[case] = str(error)[:300]
    assert not wrong


@pytest.mark.slow
def test_none_takes_long_or_much(results: dict[tuple[str, str], Ended]) -> None:
    wrong = {c: (r.seconds, r.gigabytes) for c, r in results.items() if r.seconds > SECONDS or r.gigabytes > GIGABYTES}
    assert not wrong


def test_large_photos_are_not_kept_whole(tmp_path: Path) -> None:
    """Six photos of 99 megapixels are 2.4 GB with their masks; each is scaled down before the next is read."""
    for sample in range(2):
        folder = tmp_path / f"{sample}_thing {sample}"
        (folder / "masks").mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (9950, 9950), (number, 99, 99)).save(folder / f"{number}.jpg")
            mask = Image.new("L", (9950, 9950))
            mask.paste(255, (3000, 3000, 7000, 7000))
            mask.save(folder / "masks" / f"{number}.png")
    result = ended(["pair", str(tmp_path)], tmp_path / "errors.txt")
    assert (result.code, result.text) == (0, "")
    assert result.gigabytes < 2.0  # kept whole they took 3.4
