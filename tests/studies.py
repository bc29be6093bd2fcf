"""A made-up bench and studies of it, and simulated raters. Nothing here is an answer of a person."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from PIL import Image

from magictailor.common.pictures import save_png
from magictailor.evaluate.records import Row, first_seed, write_rows
from magictailor.generation.images import image_name
from magictailor.study.arrangement import group_order, shown_pictures
from magictailor.study.design import Study
from magictailor.study.make import MakeOptions, make_study
from magictailor.study.raters import rater_of
from magictailor.study.store import Answer, Store

METHODS = ("magictailor", "dreambooth", "clic")
CLAUSES = ("on the beach", "in the snow", "at night", "watercolor painting")
PAIRS = ("ada", "bob", "cleo")


def _image(seed: int, size: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8))


def made_up_bench(folder: Path, pairs: Sequence[str] = PAIRS, methods: Sequence[str] = METHODS) -> Path:
    """Pairs of noise with a truth, and a picture of each method for four prompts, with records that name the method."""
    for number, pair in enumerate(pairs):
        home = folder / "pairs" / pair
        for index, label in enumerate(("person", "hair")):
            save_png(_image(number * 10 + index), home / f"{index}_{label}_a.png")
            save_png(Image.new("L", (32, 32), 255), home / "masks" / f"{index}_{label}_a.png")
        save_png(_image(number * 10 + 5), home / "truth" / "composite.png")
        for key in ("beach", "snow", "night", "watercolor"):
            save_png(_image(number * 10 + 6), home / "truth" / f"composite-{key}.png")
        for place, method in enumerate(methods):
            rows = []
            for clause in CLAUSES:
                prompt, seed = f"<person> with <hair>, {clause}", first_seed(pair)
                picture = _image(1000 + number * 100 + place * 10 + len(clause))
                save_png(
                    picture,
                    folder / "images" / pair / method / image_name(prompt, seed),
                    {"method": method, "prompt": prompt},
                )
                rows.append(Row(pair, method, prompt, seed, "judge", "text", 0.5))
            write_rows(folder / "results" / pair / f"{method}.parquet", rows, {})
    return folder


def made_up_study(folder: Path, **options: Any) -> Study:
    """A study of a made-up bench in ``folder / "study"``; by default six groups, two checks and a practice."""
    bench = folder / "bench"
    if not bench.exists():
        made_up_bench(bench)
    return make_study(bench, folder / "study", MakeOptions(**{"groups": 6, **options}))


def simulated_answers(study: Study, raters: int, favourite: str, seed: int = 0, share: float = 0.8) -> list[Answer]:
    """Of raters who choose ``favourite`` with this probability and any other picture otherwise, and pass all checks."""
    rng = np.random.default_rng(seed)
    answers = []
    for number in range(raters):
        rater = rater_of(f"simulated {seed} {number}")
        for group in group_order(study, rater):
            files = shown_pictures(study, rater, group)
            wanted = [p.file for p in group.pictures if p.method == favourite and p.file in files]
            for question in study.questions:
                chosen = group.answer or (
                    wanted[0] if wanted and rng.random() < share else files[rng.integers(len(files))]
                )
                answers.append(Answer(rater, group.name, question.name, chosen, 1, 4.0, "2026-01-01T00:00:00Z"))
    return answers


def store_answers(store: Store, answers: Sequence[Answer]) -> None:
    with store.writing() as connection:
        for answer in answers:
            store.add_rater(connection, answer.rater, 10_000)
            store.record(connection, answer)


# --- servers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(
    folder: Path, port: int, database: str | None = None, log: Path | None = None
) -> subprocess.Popen[bytes]:
    """`magictailor study serve` in a process of its own; returns when it answers."""
    command = [sys.executable, "-m", "magictailor", "study", "serve", str(folder), "--port", str(port)]
    command += ["--database", database] if database else []
    output = (log or folder / "server.log").open("ab")
    process = subprocess.Popen(command, stdout=output, stderr=output)
    output.close()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {(log or folder / 'server.log').read_text()[-2000:]}")
        try:
            urlopen(f"http://127.0.0.1:{port}/static/theme.css", timeout=5).close()
            return process
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise RuntimeError("the server does not answer")


@contextmanager
def served(folder: Path, database: str | None = None) -> Iterator[str]:
    """The address of a study that is served."""
    port = free_port()
    process = start_server(folder, port, database)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


# --- PostgreSQL


def postgresql_bin() -> Path | None:
    """The folder of PostgreSQL's programs; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) if Path("/usr/lib/postgresql").is_dir() else []
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """The address of a database in a PostgreSQL server of its own, which runs as an unprivileged user.

    Its settings are Debian's: in particular, a commit returns after it is on disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    programs, data, port = postgresql_bin(), folder / "data", free_port()
    assert programs is not None
    as_user: dict[str, Any] = {}
    if os.getuid() == 0:  # it refuses to run as root
        import pwd

        user = pwd.getpwnam("postgres")
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        folder.chmod(0o755)
        for parent in folder.parents:
            if parent.stat().st_mode & 0o001 == 0:
                parent.chmod(parent.stat().st_mode | 0o011)
        data.mkdir()
        os.chown(data, user.pw_uid, user.pw_gid)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=50"

    def run(*command: str) -> None:
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120, cwd="/", **as_user
        )

    run(str(programs / "initdb"), "-D", str(data), "-U", "study", "--auth=trust", "-E", "UTF8", "--locale=C")
    run(str(programs / "pg_ctl"), "-D", str(data), "-o", options, "-w", "-l", str(data / "log"), "start")
    try:
        yield f"postgresql://study@127.0.0.1:{port}/postgres"
    finally:
        run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")


def chromium() -> str | None:
    """The path of a Chromium; None where there is none."""
    return next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
