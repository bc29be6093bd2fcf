"""What is stored, on SQLite and on PostgreSQL: each answer once, in the order it was given."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from magictailor.common.errors import InputError
from magictailor.study.design import Study
from magictailor.study.store import Answer, Store, Stored, opened
from magictailor.study.writer import Writer
from studies import made_up_study, postgresql, postgresql_bin

RATER = "a" * 16


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return made_up_study(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if postgresql_bin() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgresql(tmp_path_factory.mktemp("postgresql")) as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, study: Study, tmp_path: Path) -> Iterator[Store]:
    url = request.getfixturevalue("server") if request.param == "postgresql" else None
    made = Store(study, tmp_path, url)
    with made.writing() as connection:
        made.add_rater(connection, RATER, 10)
    yield made
    made.erase(list(made.raters()))
    made.close()


def psycopg_connection(address: str) -> Any:
    import psycopg

    return psycopg.connect(address, autocommit=True)


def record(store: Store, choice: str, revision: int, seconds: float = 1.0, rater: str = RATER) -> Stored | None:
    with store.writing() as connection:
        return store.record(connection, Answer(rater, "g", "q", choice, revision, seconds))


def stored(store: Store) -> list[tuple[str, int, float]]:
    return [(a.choice, a.revision, a.seconds) for a in store.answers(RATER)]


def test_an_answer_is_stored_once_however_often_it_comes(store: Store) -> None:
    for _ in range(3):
        assert record(store, "x", 1) == Stored(True, 1)
    assert stored(store) == [("x", 1, 1.0)]


def test_a_change_follows_what_the_rater_saw(store: Store) -> None:
    record(store, "x", 1)
    assert record(store, "y", 2, 2.0) == Stored(True, 2)
    assert stored(store) == [("y", 2, 3.0)]
    assert record(store, "x", 1) == Stored(False, 2)  # the first request again, late
    assert record(store, "z", 2) == Stored(False, 2)  # from a page that did not see the change
    assert record(store, "y", 2) == Stored(True, 2)
    assert stored(store) == [("y", 2, 3.0)]


def test_nobody_answers_who_has_not_started(store: Store) -> None:
    assert record(store, "x", 1, rater="b" * 16) is None
    assert [a.rater for a in store.answers()] == []


def test_raters_are_limited_and_erased_with_all_they_gave(store: Store) -> None:
    with store.writing() as connection:
        assert store.add_rater(connection, "b" * 16, 2)
        assert store.add_rater(connection, "b" * 16, 2)  # known
        assert not store.add_rater(connection, "c" * 16, 2)
    record(store, "x", 1)
    record(store, "x", 1, rater="b" * 16)
    assert store.erase([RATER, "f" * 16]) == 1
    assert [a.rater for a in store.answers()] == ["b" * 16]
    assert list(store.raters()) == ["b" * 16]
    assert record(store, "x", 1) is None


def test_one_piece_of_work_that_fails_does_not_fail_the_others(store: Store) -> None:
    async def run() -> list[object]:
        writer = Writer(store)
        works = [lambda c, n=n: store.record(c, Answer(RATER, f"g{n}", "q", "x", 1, 1.0)) for n in range(20)]
        works.insert(7, lambda c: 1 / 0)
        outcomes = await asyncio.gather(*(writer.write(work) for work in works), return_exceptions=True)
        writer.close()
        return list(outcomes)

    outcomes = asyncio.run(run())
    assert [type(o).__name__ for o in outcomes].count("ZeroDivisionError") == 1
    assert outcomes.count(Stored(True, 1)) == len(store.answers()) == 20


def test_an_erased_answer_is_not_left_in_the_file(study: Study, tmp_path: Path) -> None:
    store = Store(study, tmp_path)
    with store.writing() as connection:
        store.add_rater(connection, RATER, 10)
        store.record(connection, Answer(RATER, "a-group-to-find", "q", "x", 1, 1.0))
    store.erase([RATER])
    assert not any(b"a-group-to-find" in path.read_bytes() for path in tmp_path.iterdir())
    store.close()


def test_answers_of_another_study_are_refused(study: Study, tmp_path: Path) -> None:
    Store(study, tmp_path).create()
    with pytest.raises(InputError, match="holds another study's answers"):
        Store(study.model_copy(update={"order_key": "0" * 16}), tmp_path)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("mysql://x", "database mysql: no such database; give postgresql://"),
        ("nonsense", "database is not a PostgreSQL address; write postgresql://"),
        ("postgresql://u:hidden@127.0.0.1:1/x", r"cannot be used .*; start the server"),
    ],
)
def test_a_database_that_is_none_gets_one_line(study: Study, tmp_path: Path, url: str, line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        Store(study, tmp_path, url)
    assert "hidden" not in str(caught.value)


def other_database(path: Path) -> None:
    """Somebody's SQLite file, with a table called as one of ours."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE answers (id INTEGER, body TEXT); INSERT INTO answers VALUES (1, 'theirs')"
        )


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbage": (lambda path: path.write_bytes(b"no database, but text" * 100), "is damaged, or not a study's answers"),
    "folder": (Path.mkdir, "is not a file"),
    "other columns": (other_database, "holds something other than a study's answers"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_that_is_not_ours_is_named_and_left_as_it_is(study: Study, tmp_path: Path, kind: str) -> None:
    path, (make, line) = tmp_path / "answers.sqlite", OTHERS[kind]
    make(path)
    before = {p: p.is_file() and p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(InputError) as caught:
        Store(study, tmp_path)
    assert str(caught.value) == f"{path}: {line}; move it away, or put back the study's own"
    assert {p: p.is_file() and p.read_bytes() for p in tmp_path.iterdir()} == before


def test_tables_of_others_in_a_server_are_left_as_they_are(study: Study, tmp_path: Path, server: str) -> None:
    with closing(psycopg_connection(server)) as connection:
        connection.execute("CREATE SCHEMA theirs")
        connection.execute("CREATE TABLE theirs.answers (id INTEGER)")
        url = f"{server}?options=-csearch_path%3Dtheirs"
        with pytest.raises(
            InputError, match=r"database .* holds something other than a study's answers; choose another"
        ):
            Store(study, tmp_path, url)
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'theirs'").fetchall()
        assert tables == [("answers",)]
        connection.execute("DROP SCHEMA theirs CASCADE")


def test_a_database_is_made_by_the_first_change(study: Study, tmp_path: Path) -> None:
    store = Store(study, tmp_path)
    assert (store.answers(), store.raters(), store.has_rater(RATER), store.erase([RATER])) == ([], {}, False, 0)
    assert not any(tmp_path.iterdir())
    with store.writing() as connection:
        store.add_rater(connection, RATER, 10)
    assert store.has_rater(RATER)
    with opened(study, tmp_path) as again:
        assert list(again.raters()) == [RATER]
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["answers.sqlite"]


def test_a_database_that_fails_during_the_work_gets_one_line(study: Study, tmp_path: Path) -> None:
    def read_after_damage() -> None:
        with opened(study, tmp_path) as store:
            (tmp_path / "answers.sqlite").write_bytes(b"no database any more" * 1000)
            store.answers()

    made = Store(study, tmp_path)
    made.create()
    made.close()
    with pytest.raises(InputError, match=r"answers\.sqlite: (is damaged|cannot be read)"):
        read_after_damage()
