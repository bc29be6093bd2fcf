"""The database of a study's answers: its tables, where it is, and whether what is there may be used."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from magictailor.common.errors import InputError

try:
    import sqlalchemy as sql
    from sqlalchemy import Connection as Connection
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
    from sqlalchemy.exc import SQLAlchemyError as SQLAlchemyError
    from sqlalchemy.pool import NullPool, StaticPool
except ImportError as error:
    raise InputError("a study needs SQLAlchemy", "run `pip install 'magictailor[study]'`") from error

DATABASE_FILE = "answers.sqlite"
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


def make_engine(folder: Path, url: str | None) -> sql.Engine:
    """The engine of a PostgreSQL address, or of the SQLite file in ``folder``. Nothing is opened yet.

    Raises:
        InputError: not a PostgreSQL address, or its driver is missing.
    """
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
        raise InputError(
            "is not a PostgreSQL address", "write postgresql://USER@HOST/DATABASE", field="database"
        ) from error
    except ModuleNotFoundError as error:
        fix = "run `pip install 'magictailor[postgresql]'`"
        raise InputError("PostgreSQL needs psycopg", fix, field="database") from error


def _sqlite_engine(path: Path) -> sql.Engine:
    url = sql.URL.create("sqlite", database=str(path.resolve()))
    engine = sql.create_engine(url, connect_args={"timeout": 30})

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


def empty_engine() -> sql.Engine:
    """The engine of a database in memory, with empty tables."""
    engine = sql.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    TABLES.create_all(engine)
    return engine


def has_tables(engine: sql.Engine) -> bool:
    """Whether a study's tables are in the database. Nothing is changed or made.

    Raises:
        InputError: the database cannot be read, or it is not a study's.
    """
    ours = {table.name: set(table.columns.keys()) for table in TABLES.sorted_tables}
    with _unchanged(engine) as connection:
        if connection is None:
            return False
        inspector = sql.inspect(connection)
        found = {
            name: {column["name"] for column in inspector.get_columns(name)} for name in inspector.get_table_names()
        }
    if {name: columns for name, columns in found.items() if name in ours} == ours:
        return True
    is_file = engine.dialect.name == "sqlite"  # a server's database may have other tables next to a study's
    if (is_file and found) or set(found) & set(ours):
        raise refused(engine, "holds something other than a study's answers")
    return False


@contextmanager
def _unchanged(engine: sql.Engine) -> Iterator[Connection | None]:
    """A connection that leaves the database as it is; None: there is no database yet."""
    try:
        if engine.dialect.name != "sqlite":
            with engine.connect() as connection:
                yield connection
            return
        path = Path(str(engine.url.database))
        if path.exists() and not path.is_file():
            raise refused(engine, "is not a file")
        if not path.exists() or not path.stat().st_size:
            yield None
            return
        # A log next to it: another process may be writing. Without one, SQLite is kept from making one.
        mode = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
        reader = sql.create_engine(
            "sqlite://", poolclass=NullPool, creator=lambda: sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True)
        )
        with reader.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise unusable(engine, error) from error


def refused(engine: sql.Engine, problem: str) -> InputError:
    """The error about a database, which is a file of the study, or was named."""
    if engine.dialect.name == "sqlite":
        return InputError(f"{engine.url.database}: {problem}", "move it away, or put back the study's own")
    return InputError(
        f"{engine.url.render_as_string(hide_password=True)}: {problem}", "choose another database", field="database"
    )


def unusable(engine: sql.Engine, error: SQLAlchemyError) -> InputError:
    """The error about a database that failed."""
    if engine.dialect.name == "sqlite":
        if not isinstance(error, OperationalError):
            return refused(engine, "is damaged, or not a study's answers")
        fix = "check its permissions and the space on its disk, and close other programs that use it"
        return InputError(f"{engine.url.database}: cannot be read or written", fix)
    reason = str(getattr(error, "orig", error)).strip().split("\n")[0]
    found = refused(engine, f"cannot be used ({reason})")
    fix = "start the server and check the address" if isinstance(error, OperationalError) else found.fix
    return InputError(found.problem, fix, field=found.field)
