"""A short version of benchmarks/study_load.py: nothing acknowledged is lost, nothing counts twice, whatever is killed when."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from studies import made_up_study, postgresql, postgresql_bin
from study_load import lost_and_double, run_load


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    if request.param == "sqlite":
        yield None
    elif postgresql_bin() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    else:
        with postgresql(tmp_path / "postgresql") as address:
            yield address


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path, database: str | None) -> None:
    study = made_up_study(tmp_path, groups=4)
    outcome = run_load(study, tmp_path / "study", database, raters=25, answers=12, kills=3, think=0.4, pause=0.7)
    assert outcome.kills == 3
    assert len(outcome.acknowledged) == 25 * 12
    assert len(outcome.waited) > len(outcome.calm)  # some were under way when it was killed
    assert lost_and_double(study, tmp_path / "study", database, outcome) == (0, 0)
