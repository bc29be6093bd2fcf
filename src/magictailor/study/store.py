"""Raters and their answers in a database: SQLite in the study's folder, or PostgreSQL by its address.

An answer has one row for each (rater, group, question), so it cannot count twice. Its revision grows by one with each
change: an answer is stored if it follows the revision that the rater saw, and a request that comes again, or too late,
changes nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from magictailor.study.database import (
    ABOUT,
    ANSWERS,
    RATERS,
    TABLES,
    Connection,
    SQLAlchemyError,
    empty_engine,
    has_tables,
    make_engine,
    refused,
    unusable,
)
from magictailor.study.design import Study

# isort: split
# After `database`, which says in one line that it is missing.
import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

ORDER_KEY = "order key"


@dataclass(frozen=True)
class Answer:
    """A rater's answer to a question about a group.

    choice: a picture's file, or a special choice.
    revision: 1 for the first answer, one more for each change.
    seconds: the time that the rater looked at the screen for it, with its changes.
    answered: UTC, to the second.
    """

    rater: str
    group: str
    question: str
    choice: str
    revision: int
    seconds: float
    answered: str = ""


@dataclass(frozen=True)
class Stored:
    """What is in the database after an answer came. ``accepted``: whether that is the answer's own choice."""

    accepted: bool
    revision: int


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """The database of one study. One that is not there yet is made by the first change; until then it reads as empty.

    Args:
        url: an address such as ``postgresql://user@host/database``; None: `answers.sqlite` in the study's folder.

    Raises:
        InputError: no such database, its driver is missing, or it holds something other than this study's answers.
            Nothing has been changed.
    """

    def __init__(self, study: Study, folder: Path, url: str | None = None) -> None:
        self.order_key = study.order_key
        self.database = make_engine(folder, url)
        self.dialect: Any = postgresql if self.database.dialect.name == "postgresql" else sqlite
        self.exists = has_tables(self.database)
        self.engine = self.database if self.exists else empty_engine()
        if self.exists:
            with self._named_failures(), self.reading() as connection:
                self._check_study(connection)

    def create(self) -> None:
        """Make the tables, unless they are there.

        Raises:
            InputError: the database cannot be written, or another study has taken it in the meantime.
        """
        if self.exists:
            return
        with self._named_failures(), self.database.begin() as connection:
            TABLES.create_all(connection)
            _insert(self.dialect, connection, ABOUT, {"key": ORDER_KEY, "value": self.order_key})
            self._check_study(connection)
        self.engine, self.exists = self.database, True

    def _check_study(self, connection: Connection) -> None:
        found = connection.scalar(sql.select(ABOUT.c.value).where(ABOUT.c.key == ORDER_KEY))
        if found != self.order_key:
            raise refused(self.database, "holds another study's answers")

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise unusable(self.database, error) from error

    def close(self) -> None:
        self.engine.dispose()
        self.database.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction. It is on disk when the block ends."""
        self.create()
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.engine.connect().execution_options(read_only=True) as connection:
            yield connection

    def add_rater(self, connection: Connection, rater: str, max_raters: int) -> bool:
        """Whether the rater is in the database now; not, if it is full."""
        return self._add_rater(connection, rater, max_raters, now(), "server")

    def add_rater_of_file(self, connection: Connection, rater: str, max_raters: int, consented: str) -> bool:
        """As `add_rater`; not, either, if the rater answers on the server: whoever knows the name could write a file."""
        source = connection.scalar(sql.select(RATERS.c.source).where(RATERS.c.id == rater))
        return source != "server" and self._add_rater(connection, rater, max_raters, consented, "file")

    def _add_rater(self, connection: Connection, rater: str, max_raters: int, consented: str, source: str) -> bool:
        if self._has_rater(connection, rater):
            return True
        if (connection.scalar(sql.select(sql.func.count()).select_from(RATERS)) or 0) >= max_raters:
            return False
        _insert(self.dialect, connection, RATERS, {"id": rater, "consented": consented, "source": source})
        return True

    def has_rater(self, rater: str) -> bool:
        with self.reading() as connection:
            return self._has_rater(connection, rater)

    def _has_rater(self, connection: Connection, rater: str) -> bool:
        return connection.scalar(sql.select(RATERS.c.id).where(RATERS.c.id == rater)) is not None

    def record(self, connection: Connection, answer: Answer) -> Stored | None:
        """Store an answer, if it follows the revision that is there; None if there is no such rater.

        One statement, unless it changes nothing: with a server in between, each one is a way there and back.
        """
        key = {"rater": answer.rater, "group_name": answer.group, "question": answer.question}
        values = {
            "choice": answer.choice, "revision": answer.revision, "seconds": answer.seconds, "answered": answer.answered or now(),
        }  # fmt: skip
        row = {**key, **values}
        new = sql.select(*(sql.literal(value, ANSWERS.c[name].type) for name, value in row.items()))
        insert = self.dialect.insert(ANSWERS).from_select(list(row), new.where(RATERS.c.id == answer.rater))
        changes = {**values, "seconds": ANSWERS.c.seconds + answer.seconds}
        follows = (ANSWERS.c.revision == answer.revision - 1) & (ANSWERS.c.choice != answer.choice)
        upsert = insert.on_conflict_do_update(index_elements=list(key), set_=changes, where=follows)
        if connection.execute(upsert.returning(ANSWERS.c.revision)).first() is not None:
            return Stored(True, answer.revision)
        where = sql.and_(*(ANSWERS.c[name] == value for name, value in key.items()))
        found = connection.execute(sql.select(ANSWERS.c.choice, ANSWERS.c.revision).where(where)).first()
        return None if found is None else Stored(found.choice == answer.choice, found.revision)

    def replace(self, connection: Connection, answer: Answer) -> bool:
        """Store an answer from a file, if its revision is higher than the one there; returns whether it is new."""
        if not self._has_rater(connection, answer.rater):
            return False
        key = {"rater": answer.rater, "group_name": answer.group, "question": answer.question}
        values = {
            "choice": answer.choice, "revision": answer.revision, "seconds": answer.seconds, "answered": answer.answered or now(),
        }  # fmt: skip
        insert = self.dialect.insert(ANSWERS).values(**key, **values)
        upsert = insert.on_conflict_do_update(
            index_elements=list(key), set_=values, where=ANSWERS.c.revision < answer.revision
        )
        return connection.execute(upsert.returning(ANSWERS.c.revision)).first() is not None

    def answers(self, rater: str | None = None) -> list[Answer]:
        """All answers, or one rater's, sorted by rater, group and question."""
        columns = (
            ANSWERS.c[name] for name in ("rater", "group_name", "question", "choice", "revision", "seconds", "answered")
        )
        query = sql.select(*columns).order_by(ANSWERS.c.rater, ANSWERS.c.group_name, ANSWERS.c.question)
        with self.reading() as connection:
            rows = connection.execute(query if rater is None else query.where(ANSWERS.c.rater == rater))
            return [Answer(*row) for row in rows]

    def raters(self) -> dict[str, tuple[str, str]]:
        """When each rater consented and where the answers come from, by name."""
        with self.reading() as connection:
            rows = connection.execute(
                sql.select(RATERS.c.id, RATERS.c.consented, RATERS.c.source).order_by(RATERS.c.id)
            )
            return {row[0]: (row[1], row[2]) for row in rows}

    def erase(self, raters: Sequence[str]) -> int:
        """Remove raters with all their answers; returns the number of raters that were there."""
        if not self.exists:
            return 0
        with self.writing() as connection:
            connection.execute(sql.delete(ANSWERS).where(ANSWERS.c.rater.in_(raters)))
            removed = connection.execute(sql.delete(RATERS).where(RATERS.c.id.in_(raters))).rowcount
        if self.dialect is sqlite:  # the log still holds what was removed
            raw = self.engine.raw_connection()
            try:
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                raw.close()
        return removed


def _insert(dialect: Any, connection: Connection, table: sql.Table, row: dict[str, Any]) -> None:
    """Insert a row, unless its key is there."""
    connection.execute(dialect.insert(table).values(**row).on_conflict_do_nothing())


@contextmanager
def opened(study: Study, folder: Path, url: str | None = None) -> Iterator[Store]:
    """The study's database for one piece of work; arguments and errors as `Store`.

    Raises:
        InputError: the database fails during the work, too.
    """
    store = Store(study, folder, url)
    try:
        yield store
    except SQLAlchemyError as error:
        raise unusable(store.database, error) from error
    finally:
        store.close()
