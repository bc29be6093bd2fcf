"""A bench's rows in Parquet: a figure of a picture, keyed by (pair, method, prompt, seed, figure)."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from magictailor.common.errors import InputError
from magictailor.common.files import write_whole

JUDGES = b"magictailor.judges"  # in a file's metadata: which model judged, by metric


def first_seed(pair: str) -> int:
    """The generation seed of the first picture of each prompt: another one for each pair (its name), so that pairs do not
    share their noise."""
    return crc32(pair.encode()) % 2**31


@dataclass(frozen=True, order=True)
class Row:
    """A metric that finds nothing to judge in a picture leaves a row without a figure, its value not a number.

    ``prompt`` is empty and ``seed`` -1 where all pictures of a unit were judged together.
    """

    pair: str
    method: str
    prompt: str
    seed: int
    metric: str
    figure: str
    value: float


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("a bench needs pyarrow: pip install 'magictailor[bench]'") from error
    return pyarrow.parquet


def write_rows(path: Path, rows: Iterable[Row], judges: Mapping[str, str]) -> None:
    """Sorted: the same rows give the same bytes. ``judges``: the model behind each metric."""
    parquet = _parquet()
    import pyarrow

    table = pyarrow.Table.from_pylist([asdict(row) for row in sorted(rows)])
    table = table.replace_schema_metadata({JUDGES: json.dumps(dict(judges), sort_keys=True)})
    write_whole(path, lambda temporary: parquet.write_table(table, temporary))


def read_unit(path: Path) -> tuple[list[Row], dict[str, str]]:
    """A unit's rows, and the model behind each metric; none where nothing is scored yet.

    Raises:
        InputError: a damaged file.
    """
    parquet = _parquet()
    if not path.exists():
        return [], {}
    try:
        table = parquet.read_table(path)
        judges = dict(json.loads((table.schema.metadata or {})[JUDGES]))
        return [Row(**row) for row in table.to_pylist()], judges
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it, and run the bench again") from error


def _units(folder: Path) -> list[tuple[list[Row], dict[str, str]]]:
    return [read_unit(path) for path in sorted((folder / "results").rglob("*.parquet"))]


def all_rows(folder: Path) -> list[Row]:
    """Of all finished units."""
    return sorted(row for rows, _ in _units(folder) for row in rows)


def all_judges(folder: Path) -> dict[str, str]:
    """Which models judged, by metric; joined where units differ."""
    found: dict[str, set[str]] = {}
    for _, judges in _units(folder):
        for metric, model in judges.items():
            found.setdefault(metric, set()).add(model)
    return {metric: " / ".join(sorted(models)) for metric, models in sorted(found.items())}


def read_cost(path: Path) -> dict[str, Any]:
    """Raises InputError for a damaged file."""
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); delete it, and run the bench again") from error
