"""A bench on two Ray nodes of this machine, with faults; each time the scores have to equal a quiet local run's to the byte.

    python benchmarks/bench_faults.py --output DIR

Needs the extra `ray`. The bench trains on the embedded base for a few steps. In turn: a node is killed in mid-unit; the
driver is killed and started again; a node lacks pyarrow, and one unit always fails. With `--efficiency`, it measures
instead how long a longer bench takes on one node and on two. With `--s3`, the same bench runs on a local S3 server (moto).
Prints a line for each and exits with 1 if any differs.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

SPEC = """
pairs = ["world:2000000000+{pairs}"]
methods = ["magictailor", "plain-lora"]
prompts = ["a photo of {{concept}} with {{component}}"]
seeds = 2
metrics = ["judge"]
settings = [{settings}]
anchors = {anchors}
"""
SHORT = '"phases.0.steps={steps}", "phases.1.steps={steps}", "sampling.steps=4"'


def write_spec(path: Path, pairs: int, steps: int, anchors: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SPEC.format(pairs=pairs, settings=SHORT.format(steps=steps), anchors=str(anchors).lower()))
    return path


def start(spec: Path, output: Path | str, *options: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "magictailor", "bench", "run", str(spec), "--output", str(output)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*command, "--threads", "1", *options], env={**os.environ, **environment}, **pipes)  # type: ignore[call-overload]


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    text, _ = process.communicate()
    if process.returncode != code:
        print(text)
        raise SystemExit(f"the bench ended with {process.returncode}, not {code}")
    return text


def contents(home: Path, *without: str) -> dict[str, str]:
    """Digests of scores and images."""
    files = [path for kind in ("results", "images") for path in sorted((home / kind).rglob("*.*"))]
    named = {str(path.relative_to(home)): sha256(path.read_bytes()).hexdigest() for path in files}
    return {name: value for name, value in named.items() if not any(part in name for part in without)}


def progress(home: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((home / "progress.json").read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def until_training(home: Path, process: subprocess.Popen[str], count: int) -> None:
    """Wait until ``count`` units train at once and have begun."""
    while process.poll() is None:
        begun = [path.parent.relative_to(home / "runs") for path in (home / "runs").glob("*/*/metrics.jsonl")]
        if sum(not (home / "costs" / f"{trial}.json").exists() for trial in begun) >= count:
            return
        time.sleep(0.2)
    raise SystemExit(f"the bench ended before anything could be killed: {process.communicate()[0]}")


@contextmanager
def cluster(nodes: int, **environment: str) -> Iterator[tuple[Any, list[Any], str]]:
    """Raylets with one core each; ``environment``: of the last one."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  Ray makes its workers nice, and a busy machine then gives them no time
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        rest = [found.add_node(num_cpus=1, env_vars=environment if n == nodes - 1 else {}) for n in range(1, nodes)]
        yield found, rest, found.address
    finally:
        found.shutdown()


def check(name: str, home: Path, expected: dict[str, str], *without: str) -> bool:
    got = contents(home, *without)
    wanted = {k: v for k, v in expected.items() if not any(part in k for part in without)}
    print(f"{name}: {'the same bytes' if got == wanted else 'DIFFERENT'} ({len(got)} files)", flush=True)
    return got == wanted


def processes(spec: Path, home: Path, expected: dict[str, str]) -> bool:
    finish(start(spec, home, "--workers", "2"))
    return check("two local processes", home, expected)


def node_killed(spec: Path, home: Path, expected: dict[str, str]) -> bool:
    with cluster(2) as (found, (node,), address):
        process = start(spec, home, "--ray", address)
        until_training(home, process, 2)
        found.remove_node(node, allow_graceful=False)
        finish(process)
    return check("a node killed in mid-unit", home, expected)


def driver_killed(spec: Path, home: Path, expected: dict[str, str]) -> bool:
    with cluster(2) as (_, _, address):
        process = start(spec, home, "--ray", address)
        until_training(home, process, 1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        finish(start(spec, home, "--ray", address))
    return check("the driver killed and started again", home, expected)


def unfit_and_broken(spec: Path, home: Path, expected: dict[str, str]) -> bool:
    """A node lacks pyarrow; an image of one unit is damaged."""
    shim = home.parent / "shim"
    (shim / "pyarrow").mkdir(parents=True, exist_ok=True)
    (shim / "pyarrow" / "__init__.py").write_text("raise ModuleNotFoundError('not installed here')\n")
    broken = "world-2000000000/plain-lora"
    image = next((home.parent / "quiet" / "images" / broken).glob("*.png")).relative_to(home.parent / "quiet")
    (home / image).parent.mkdir(parents=True, exist_ok=True)
    (home / image).write_bytes(b"no picture")
    good = True
    with cluster(2, PYTHONPATH=f"{shim}:{os.environ.get('PYTHONPATH', '')}") as (_, _, address):
        text = finish(start(spec, home, "--ray", address), code=1)
    for words in ("is left out: a bench needs pyarrow", f"score {broken}", "damaged"):
        if words not in " ".join(text.split()):
            print(f"it does not say {words!r}:\n{text}")
            good = False
    print(text.strip().splitlines()[-1])
    return good & check("a node without pyarrow, and a unit that always fails", home, expected, broken)


SCENARIOS = {"processes": processes, "node": node_killed, "driver": driver_killed, "unfit": unfit_and_broken}


def faults(output: Path, steps: int, names: Sequence[str] = tuple(SCENARIOS)) -> bool:
    spec = write_spec(output / "spec.toml", 2, steps, anchors=False)
    began = time.monotonic()
    if not progress(output / "quiet").get("ended"):
        finish(start(spec, output / "quiet"))
    expected = contents(output / "quiet")
    print(f"a quiet local run: {len(expected)} files, {time.monotonic() - began:.0f} s", flush=True)
    return min(SCENARIOS[name](spec, output / name, expected) for name in names)


def efficiency(output: Path, steps: int) -> bool:
    """The same bench on one node and on two, one core each; only units' time, from the first to the last."""
    spec, seconds = write_spec(output / "long.toml", 4, steps, anchors=False), {}
    for nodes in (1, 2):
        home = output / f"nodes-{nodes}"
        with cluster(nodes) as (_, _, address):
            finish(start(spec, home, "--ray", address))
        state = progress(home)
        seconds[nodes] = state["updated"] - state["started"]
    share = seconds[1] / 2 / seconds[2]
    print(f"one node {seconds[1]:.0f} s, two {seconds[2]:.0f} s: efficiency {share:.2f}")
    return share >= 0.9


def on_s3(output: Path, steps: int) -> bool:
    """The same bench in a bucket of a local server, with two local processes."""
    import fsspec
    from moto.server import ThreadedMotoServer

    spec = write_spec(output / "s3.toml", 1, steps)
    finish(start(spec, output / "s3-quiet"))
    server = ThreadedMotoServer(port=0)
    server.start()
    address = f"http://127.0.0.1:{server._server.server_port}"  # type: ignore[union-attr]
    environment = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    os.environ.update(environment)
    system = fsspec.filesystem("s3")
    system.mkdir("benches")
    finish(start(spec, "s3://benches/first", "--workers", "2"))
    system.get("benches/first", str(output / "s3-copy"), recursive=True)  # which it makes
    good = check("in a bucket", output / "s3-copy", contents(output / "s3-quiet"))
    print(finish(start(spec, "s3://benches/first", "--workers", "2")).strip().splitlines()[-1])
    server.stop()
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4, help="of each phase")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=[*SCENARIOS])
    parser.add_argument("--efficiency", action="store_true")
    parser.add_argument("--s3", action="store_true")
    options = parser.parse_args()
    if options.efficiency or options.s3:
        good = (efficiency if options.efficiency else on_s3)(options.output, options.steps)
    else:
        good = faults(options.output, options.steps, options.only)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
