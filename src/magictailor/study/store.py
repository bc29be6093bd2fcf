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

from magictailor.common.errors import InputError
from magictailor.study.design import Study

try:
    import sqlalchemy as sql
    from sqlalchemy import Connection as Connection
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
    from sqlalchemy.exc import SQLAlchemyError as SQLAlchemyError
except ImportError as error:
    raise InputError("a study needs SQLAlchemy", "run `pip install 'magictailor[study]'`") from error

DATABASE_FILE = "answers.sqlite"
ORDER_KEY = "order key"
TABLES = sql.MetaData()
ABOUT = sql.Table(
    "study",
    TABLES,
    sql.Column("key", sql.String(40), primary_key=True),
    sql.Column("value", sql.String(100), nullable=False),
)
RATERS = sql.Table(
    "raters", TABLES,
    sql.Column("id", sql.String(16), primary_key=True),
    sql.Column("consented", sql.String(20), nullable=False),
    sql.Column("source", sql.String(6), nullable=False),  # server, or file
)  # fmt: skip
ANSWERS = sql.Table(
    "answers", TABLES,
    sql.Column("rater", sql.String(16), sql.ForeignKey("raters.id", ondelete="CASCADE"), primary_key=True),
    sql.Column("group_name", sql.String(40), primary_key=True),
    sql.Column("question", sql.String(40), primary_key=True),
    sql.Column("choice", sql.String(40), nullable=False),
    sql.Column("revision", sql.Integer, nullable=False),
    sql.Column("seconds", sql.Float, nullable=False),
    sql.Column("answered", sql.String(20), nullable=False),
)  # fmt: skip


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
    """The database of one study.

    Args:
        url: an address such as ``postgresql://user@host/database``; None: `answers.sqlite` in the study's folder.

    Raises:
        InputError: no such database, its driver is missing, or it holds another study's answers.
    """

    def __init__(self, study: Study, folder: Path, url: str | None = None) -> None:
        self.engine = _engine(folder, url)
        self.dialect: Any = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        try:
            with self.writing() as connection:
                TABLES.create_all(connection)
                _insert(self.dialect, connection, ABOUT, {"key": ORDER_KEY, "value": study.order_key})
                found = connection.scalar(sql.select(ABOUT.c.value).where(ABOUT.c.key == ORDER_KEY))
        except SQLAlchemyError as error:
            raise _unusable(self.engine, error) from error
        if found != study.order_key:
            raise InputError(
                f"{_shown(self.engine)}: holds another study's answers", "choose another", field="database"
            )

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction. It is on disk when the block ends."""
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


def _engine(folder: Path, url: str | None) -> sql.Engine:
    if url is None:
        return _sqlite_engine(folder / DATABASE_FILE)
    try:
        parsed = sql.make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.drivername != "postgresql+psycopg":
            raise InputError(
                f"{parsed.drivername}: no such database",
                "give postgresql://USER@HOST/DATABASE, or leave it out",
                field="database",
            )
        return sql.create_engine(parsed, pool_pre_ping=True, pool_recycle=1800, connect_args={"connect_timeout": 10})
    except InputError:
        raise
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise InputError("no database's address", "write postgresql://USER@HOST/DATABASE", field="database") from error
    except ModuleNotFoundError as error:
        fix = "run `pip install 'magictailor[postgresql]'`"
        raise InputError("PostgreSQL needs psycopg", fix, field="database") from error


def _sqlite_engine(path: Path) -> sql.Engine:
    engine = sql.create_engine(f"sqlite:///{path.resolve()}", connect_args={"timeout": 30})

    @sql.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not at the first write
        for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {setting}")

    @sql.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        """A writer takes the lock at once: two that first read and then write would block each other."""
        reads = connection.get_execution_options().get("read_only")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _shown(engine: sql.Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _unusable(engine: sql.Engine, error: SQLAlchemyError) -> InputError:
    reason = str(getattr(error, "orig", error)).strip().split("\n")[0]
    fix = "start the server and check the address" if isinstance(error, OperationalError) else "choose another"
    return InputError(f"{_shown(engine)}: cannot be used ({reason})", fix, field="database")
