"""A bench's scores in Parquet files, one for each trial, whose footers say which images have been scored."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, RootModel

from magictailor.common.errors import InputError
from magictailor.common.files import write_atomically
from magictailor.common.records import Record, checked, parsed_json

COLUMNS = ("pair", "method", "prompt", "seed", "scorer", "metric", "value", "training_seed")  # the fields of `Row`
OLD_NAMES = {"scorer": "metric", "metric": "figure"}  # of columns before format 2
FORMAT = 2
FORMAT_KEY, SCORED_KEY, WORDS_KEY = b"magictailor.format", b"magictailor.scored", b"magictailor.words"  # of a footer
MODELS_KEY = b"magictailor.judges"  # before format 2: each scorer's model
NO_SCORES = "not a complete Parquet file with the columns of scores"
FIX = "delete it and run the bench again"
Key = tuple[str, int]  # prompt and seed of an image


def first_seed(pair: str) -> int:
    """The seed of the first image of each prompt: derived from the pair's name, so that pairs do not share their noise."""
    return crc32(pair.encode()) % 2**31


@dataclass(frozen=True, order=True)
class Row:
    """A metric's value of an image.

    A scorer that has no metric for an image leaves a row with an empty ``metric`` and NaN, which marks it as done.
    ``prompt`` is empty and ``seed`` -1 for a value of all images of a trial together.
    """

    pair: str
    method: str
    prompt: str
    seed: int
    scorer: str
    metric: str
    value: float
    training_seed: int = 0


@dataclass(frozen=True)
class Scored:
    """What a file's footer says: the model of each scorer, the images that it has scored, and the pair's pseudo-words
    (none in files from before format 2)."""

    models: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, frozenset[Key]] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    def missing(self, scorer: str, model: str, keys: Iterable[Key]) -> set[Key]:
        """The images of ``keys`` that this model of the scorer has not scored."""
        done = self.images.get(scorer, frozenset()) if self.models.get(scorer) == model else frozenset()
        return set(keys) - done


class _Entry(BaseModel):
    """What a footer says of a scorer: its model, and by prompt the stretches of seeds, see `_ranges`."""

    model_config = ConfigDict(strict=True, frozen=True)

    model: str
    images: dict[str, list[Annotated[list[int], Field(min_length=2, max_length=2)]]]

    def keys(self, most: int) -> frozenset[Key]:
        """The images. Raises ValueError if they are more than ``most``: an image has at least one row."""
        stretches = [(text, first, count) for text, ranges in self.images.items() for first, count in ranges]
        if sum(max(0, count) for _, _, count in stretches) > most:
            raise ValueError("its footer names more images than it has rows")
        return frozenset((text, first + i) for text, first, count in stretches for i in range(count))


_Entries = RootModel[dict[str, _Entry]]
_Models = RootModel[dict[str, str]]
_Words = RootModel[list[str]]


def parquet() -> Any:
    """pyarrow.parquet. Raises InputError if it is missing."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("a bench needs pyarrow", "run `pip install 'magictailor[bench]'`") from error
    return pyarrow.parquet


def schema(metadata: Mapping[bytes, bytes] | None = None) -> Any:
    """The columns `COLUMNS` with their types, as pyarrow's schema."""
    import pyarrow

    kinds = {"seed": pyarrow.int64(), "training_seed": pyarrow.int64(), "value": pyarrow.float64()}
    return pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in COLUMNS], metadata=metadata)


def damaged(path: Path, problem: object) -> InputError:
    """The error of a file that cannot be read."""
    return InputError(f"{path}: damaged ({problem})", FIX)


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    """``[first, count]`` of each stretch of successive numbers."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][0] + found[-1][1]:
            found[-1][1] += 1
        else:
            found.append([number, 1])
    return found


def _footer(rows: Iterable[Row], models: Mapping[str, str], words: Sequence[str]) -> dict[bytes, bytes]:
    images: dict[str, dict[str, set[int]]] = {scorer: {} for scorer in sorted(models)}
    for row in rows:
        if row.prompt:
            images.setdefault(row.scorer, {}).setdefault(row.prompt, set()).add(row.seed)
    scored = {
        scorer: {
            "model": models.get(scorer, ""),
            "images": {text: _ranges(seeds) for text, seeds in sorted(prompts.items())},
        }
        for scorer, prompts in sorted(images.items())
    }
    return {
        FORMAT_KEY: str(FORMAT).encode(),
        SCORED_KEY: json.dumps(scored).encode(),
        WORDS_KEY: json.dumps(list(words)).encode(),
    }


def write_rows(path: Path, rows: Iterable[Row], models: Mapping[str, str], words: Sequence[str] = ()) -> None:
    """Write the rows sorted, so that the same rows give the same bytes. ``models``: by scorer."""
    library, ordered = parquet(), sorted(rows)
    import pyarrow

    columns = list(zip(*(astuple(row) for row in ordered), strict=True)) or [() for _ in COLUMNS]
    table = pyarrow.table(dict(zip(COLUMNS, columns, strict=True)), schema=schema(_footer(ordered, models, words)))
    write_atomically(path, lambda temporary: library.write_table(table, temporary))


def _check_format(path: Path, metadata: Mapping[bytes, bytes]) -> bool:
    """Whether the file is of today's format; one from before formats had numbers is read as well."""
    number = metadata.get(FORMAT_KEY)
    if number is None and MODELS_KEY in metadata:
        return False
    if number is None:
        raise damaged(path, "not the scores of a bench")
    if not number.isdigit() or len(number) > 9 or int(number) > FORMAT:
        raise InputError(
            f"{path}: format {number.decode(errors='replace')[:20]}, made by a newer version", "upgrade magictailor"
        )
    return True


def read_table(path: Path) -> Any:
    """A file as a pyarrow table with the columns `COLUMNS`.

    Raises:
        InputError: a damaged file, columns of other types, or a newer format.
    """
    import pyarrow

    library = parquet()
    try:
        table = library.ParquetFile(path).read()
        new = _check_format(path, table.schema.metadata or {})
        names = COLUMNS if new else tuple(OLD_NAMES.get(name, name) for name in COLUMNS[:-1])
        table = table.select(list(names)).rename_columns(list(COLUMNS[: len(names)]))
        if not new:
            table = table.append_column("training_seed", pyarrow.array([0] * len(table), pyarrow.int64()))
        table = table.cast(schema())
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
        raise damaged(path, NO_SCORES) from error
    if any(table[name].null_count for name in COLUMNS):
        raise damaged(path, "values are missing")
    _check_finite(path, table)
    return table


def _check_finite(path: Path, table: Any) -> None:
    """Raises InputError for a value that is not a number, except the mark of an image without a metric, see `Row`."""
    values, metrics = table["value"].to_numpy(), table["metric"]
    for i in (~np.isfinite(values)).nonzero()[0].tolist():
        if (name := metrics[i].as_py()) or not np.isnan(values[i]):
            raise damaged(path, f"a value of {name or 'no metric'} is {values[i]}")


def _rows(table: Any) -> Iterator[Row]:
    columns = (table[name].to_pylist() for name in COLUMNS)
    return (Row(*values) for values in zip(*columns, strict=True))


def _read_footer(kind: type[Record], path: Path, metadata: Mapping[bytes, bytes], key: bytes) -> Record:
    return checked(kind, parsed_json(metadata.get(key, b"null")), path, FIX)


def _summary(path: Path, metadata: Mapping[bytes, bytes], rows: int) -> Scored:
    if not _check_format(path, metadata):
        images: dict[str, set[Key]] = {}
        for row in _rows(read_table(path)):
            if row.prompt:
                images.setdefault(row.scorer, set()).add((row.prompt, row.seed))
        models = _read_footer(_Models, path, metadata, MODELS_KEY).root
        return Scored(models, {scorer: frozenset(keys) for scorer, keys in images.items()})
    scored = _read_footer(_Entries, path, metadata, SCORED_KEY).root
    return Scored(
        {scorer: entry.model for scorer, entry in scored.items()},
        {scorer: entry.keys(rows) for scorer, entry in scored.items()},
        tuple(_read_footer(_Words, path, metadata, WORDS_KEY).root),
    )


def read_summary(path: Path) -> Scored:
    """The file's footer, without its rows; nothing if the file does not exist.

    Raises:
        InputError: a damaged file, or a newer format.
    """
    library = parquet()
    import pyarrow

    if not path.exists():
        return Scored()
    try:
        found = library.read_metadata(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise damaged(path, NO_SCORES) from error
    try:
        return _summary(path, found.metadata or {}, found.num_rows)
    except InputError:
        raise
    except ValueError as error:
        raise damaged(path, error) from error


def read_trial(path: Path) -> tuple[list[Row], dict[str, str]]:
    """A trial's rows, and the model of each scorer; both empty if the file does not exist.

    Raises:
        InputError: as `read_table`.
    """
    summary = read_summary(path)
    return (list(_rows(read_table(path))) if path.exists() else []), dict(summary.models)


def result_files(bench: Path) -> list[Path]:
    """The files of all trials with scores."""
    return sorted((bench / "results").rglob("*.parquet"))


def all_rows(bench: Path) -> list[Row]:
    """The rows of all trials, sorted."""
    return sorted(row for path in result_files(bench) for row in _rows(read_table(path)))


def scorer_models(bench: Path) -> dict[str, str]:
    """The model of each scorer; joined if trials differ."""
    found: dict[str, set[str]] = {}
    for path in result_files(bench):
        for scorer, model in read_summary(path).models.items():
            found.setdefault(scorer, set()).add(model)
    return {scorer: " / ".join(sorted(models)) for scorer, models in sorted(found.items())}
