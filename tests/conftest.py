"""What all tests share: one thread, and the tiny base as a diffusers folder."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from pathlib import Path

import pytest
import torch

if TYPE_CHECKING:
    from tiny import Call, Result

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def on_the_cpu() -> None:
    """Whatever cards the machine has: figures are compared with ones made there."""
    from magictailor.backbones import runtime

    runtime._best_device = lambda: "cpu"


@pytest.fixture(scope="session", autouse=True)
def a_cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads what another session has cached, and nothing is left in the user's cache."""
    os.environ["MAGICTAILOR_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def checkpoints_as_often_as_a_test_says() -> None:
    """However long a checkpoint takes beside a step of a tiny model."""
    from magictailor.training import loop as train

    train.SAVE_SHARE = 0.0


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base (epsilon) in diffusers format."""
    from tiny import pipeline

    folder = tmp_path_factory.mktemp("base")
    pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator["Call"]:
    """The command line: exit code and what it printed."""
    from tiny import Result

    def called(*arguments: object) -> "Result":
        monkeypatch.setattr(sys, "argv", ["magictailor", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return Result(int(stop.value.code or 0), printed.out, printed.err)

    import magictailor.backbones.stable_diffusion as family
    from magictailor.cli import main

    monkeypatch.setattr(family, "MAP_SIDE", 4)  # maps of 4 x 4
    with warnings.catch_warnings():
        yield called
    logging.disable(logging.NOTSET)
