"""Checkpoints that the tests of this folder share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from families import save


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each family's checkpoint, saved once."""
    root, saved = tmp_path_factory.mktemp("families"), dict[str, Path]()

    def folder(family: str) -> Path:
        if family not in saved:
            saved[family] = save(family, root / family)
        return saved[family]

    return folder
