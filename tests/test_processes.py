"""A step shared by processes is the step of one process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from magictailor.common.tensors import read_tensors, write_tensors
from magictailor.training.metrics import read_metrics
from magictailor.training.run_folder import LORA_FILE, WORDS_FILE
from magictailor.world.pairs import world_pair, write_pair
from tiny import Rig, in_child, pair, recipe, train

COUNTS, BALANCE = (2, 1, 2), 2


def step(size: str) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    rig = Rig(recipe(f"optimisation.micro_batch={size}"), pair(COUNTS))
    momentum = rig.momentum()
    rig.scatter(2)
    return rig.backward(BALANCE, momentum), rig.gradients()


def in_processes(count: int, size: str, folder: Path) -> None:
    """Each of ``count`` processes writes its figures and gradients to ``folder``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"

    def work(rank: int) -> None:
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=count)
        figures, gradients = step(size)
        numbers = {k: torch.tensor(v, dtype=torch.float64) for k, v in figures.items()}
        write_tensors(folder / f"{rank}.safetensors", {**numbers, **{f"grad.{k}": v for k, v in gradients.items()}})
        dist.destroy_process_group()

    others = []
    for rank in range(1, count):
        child = os.fork()
        if child == 0:
            os._exit(in_child(lambda rank=rank: work(rank)))
        others.append(child)
    assert in_child(lambda: work(0)) == 0
    assert all(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in others)


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (2, "3"),  # one micro-batch each: graphs are kept
        (2, "1"),  # several each: measured, then run again
        (3, "3"),  # one has nothing to do
    ],
)
def test_a_step_shared_by_processes_is_the_step_of_one(count: int, size: str, tmp_path: Path) -> None:
    figures, gradients = step("none")
    in_processes(count, size, tmp_path)
    for rank in range(count):
        there = read_tensors(tmp_path / f"{rank}.safetensors")
        assert {k: float(v) for k, v in there.items() if not k.startswith("grad.")} == pytest.approx(figures, rel=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(there[f"grad.{name}"], gradient, rtol=1e-3, atol=1e-6)


WHOLE_PAIR = ["phases.0.steps=2", "phases.1.steps=2", "optimisation.micro_batch=3"]
SEVERAL_PASSES = [
    "phases.0.steps=4",
    "optimisation.micro_batch=1",
    "loss.prior.images=3",
    "sampling.steps=3",
]  # prior images are shared too

# AdamW makes a full step of a gradient that is all rounding: the rates bound what the order of sums can change.
SMALL_STEP = "phases.0.lr=3e-5"


@pytest.mark.parametrize(
    ("launcher", "method", "settings"),
    [
        ("torch.distributed.run", "magictailor", [*WHOLE_PAIR, SMALL_STEP, "phases.1.lr=3e-5"]),
        ("accelerate.commands.launch", "dreambooth", [*SEVERAL_PASSES, SMALL_STEP]),
    ],
)
def test_a_launcher_trains_one_run_in_two_processes(
    launcher: str, method: str, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is that of one process, up to the order of sums."""
    folder = write_pair(world_pair(3), tmp_path / "pair")
    settings = [*settings, "sampling.preview_every=0"]
    chosen = [text for setting in settings for text in ("--set", setting)]
    monkeypatch.setenv("MAGICTAILOR_CACHE", str(tmp_path / "cache-1"))
    alone = train(folder, tmp_path / "alone", method=method, settings=settings)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = {
        "torch.distributed.run": ["--nproc-per-node", "2", "--master-port", port],
        "accelerate.commands.launch": ["--multi_gpu", "--num_processes", "2", "--main_process_port", port],
    }
    command = [sys.executable, "-m", launcher, *options[launcher], "-m", "magictailor", "train", str(folder)]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "two"), "--device", "cpu", "--method", method, *chosen],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "MAGICTAILOR_CACHE": str(tmp_path / "cache-2")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("done:") == 1
    assert "2 processes" in done.stdout
    for name in (n for n in (LORA_FILE, WORDS_FILE) if (alone / n).exists()):
        one, two = read_tensors(alone / name), read_tensors(tmp_path / "two" / name)
        for key, tensor in one.items():
            torch.testing.assert_close(two[key], tensor, rtol=1e-3, atol=1e-5)
    assert len(read_metrics(tmp_path / "two")) == 4
    prior_images = [
        {p.relative_to(tmp_path / c): p.read_bytes() for p in (tmp_path / c).rglob("*.png")}
        for c in ("cache-1", "cache-2")
    ]
    assert prior_images[0] == prior_images[1]
    assert len(prior_images[0]) == (6 if method == "dreambooth" else 0)
