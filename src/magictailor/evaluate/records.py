"""A bench's rows in Parquet: a figure of a picture, keyed by (pair, prompt, seed, method, metric)."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from magictailor.errors import InputError
from magictailor.files import write_whole


@dataclass(frozen=True, order=True)
class Row:
    """``value`` is not a number where the metric found nothing to judge."""

    pair: str
    method: str
    prompt: str
    seed: int
    metric: str
    value: float


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("a bench needs pyarrow: pip install 'magictailor[bench]'") from error
    return pyarrow.parquet


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Sorted: the same rows give the same bytes."""
    parquet = _parquet()
    import pyarrow

    table = pyarrow.Table.from_pylist([asdict(row) for row in sorted(rows)])
    write_whole(path, lambda temporary: parquet.write_table(table, temporary))


def read_rows(path: Path) -> list[Row]:
    """Raises InputError for a damaged file."""
    parquet = _parquet()
    try:
        return [Row(**row) for row in parquet.read_table(path).to_pylist()]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it, and run the bench again") from error


def all_rows(folder: Path) -> list[Row]:
    """Of all finished units."""
    return sorted(row for path in (folder / "results").rglob("*.parquet") for row in read_rows(path))
