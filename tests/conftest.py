"""What all tests share: one thread, and the tiny base as a diffusers folder."""

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def on_the_cpu() -> None:
    """Whatever cards the machine has: figures are compared with ones made there."""
    from magictailor.backbones import placement

    placement._best_device = lambda: "cpu"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base (epsilon) in diffusers format."""
    from tiny import pipeline

    folder = tmp_path_factory.mktemp("base")
    pipeline().save_pretrained(folder)
    return folder
