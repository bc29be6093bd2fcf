"""Tests of the world, which render in worker processes."""

import pytest

from magictailor.world.training import bank, judge_bank


@pytest.fixture(autouse=True)
def _workers_of_full_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run on all cores: workers of a low priority would wait for the other tests."""
    for module in (bank, judge_bank):
        monkeypatch.setattr(module, "NICENESS", 0)
