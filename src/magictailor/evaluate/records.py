"""A bench's scores in Parquet files, keyed by (pair, method, prompt, seed, metric), and its costs in JSON files."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from magictailor.common.errors import InputError
from magictailor.common.files import write_atomically

COLUMNS = ("pair", "method", "prompt", "seed", "metric", "figure", "value")  # in the file, for the fields of `Row`
MODELS = b"magictailor.judges"  # key in a file's metadata: each scorer's model


def first_seed(pair: str) -> int:
    """The seed of the first image of each prompt: derived from the pair's name, so that pairs do not share their noise."""
    return crc32(pair.encode()) % 2**31


@dataclass(frozen=True, order=True)
class Row:
    """A metric's value of an image.

    A scorer that has no metric for an image leaves a row with an empty ``metric`` and NaN, which marks it as done.
    ``prompt`` is empty and ``seed`` -1 for a value of all images of a unit together.
    """

    pair: str
    method: str
    prompt: str
    seed: int
    scorer: str
    metric: str
    value: float


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("a bench needs pyarrow", "run `pip install 'magictailor[bench]'`") from error
    return pyarrow.parquet


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: damaged ({error})", "delete it and run the bench again")


def write_rows(path: Path, rows: Iterable[Row], models: Mapping[str, str]) -> None:
    """Write the rows sorted, so that the same rows give the same bytes. ``models``: by scorer."""
    parquet = _parquet()
    import pyarrow

    table = pyarrow.Table.from_pylist([dict(zip(COLUMNS, astuple(row), strict=True)) for row in sorted(rows)])
    table = table.replace_schema_metadata({MODELS: json.dumps(dict(models), sort_keys=True)})
    write_atomically(path, lambda temporary: parquet.write_table(table, temporary))


def read_unit(path: Path) -> tuple[list[Row], dict[str, str]]:
    """A unit's rows, and the model of each scorer; both empty if the file does not exist.

    Raises:
        InputError: a damaged file.
    """
    parquet = _parquet()
    if not path.exists():
        return [], {}
    try:
        table = parquet.read_table(path)
        models = dict(json.loads((table.schema.metadata or {})[MODELS]))
        return [Row(*(row[column] for column in COLUMNS)) for row in table.to_pylist()], models
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(path, error) from error


def _read_units(bench: Path) -> list[tuple[list[Row], dict[str, str]]]:
    return [read_unit(path) for path in sorted((bench / "results").rglob("*.parquet"))]


def all_rows(bench: Path) -> list[Row]:
    """The rows of all finished units."""
    return sorted(row for rows, _ in _read_units(bench) for row in rows)


def scorer_models(bench: Path) -> dict[str, str]:
    """The model of each scorer; joined if units differ."""
    found: dict[str, set[str]] = {}
    for _, models in _read_units(bench):
        for scorer, model in models.items():
            found.setdefault(scorer, set()).add(model)
    return {scorer: " / ".join(sorted(models)) for scorer, models in sorted(found.items())}


def read_cost(path: Path) -> dict[str, Any]:
    """Raises InputError for a damaged file."""
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise _damaged(path, error) from error
