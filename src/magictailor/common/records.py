"""JSON files that are read back: of a bearable size, and of the shape that their reader expects."""

import json
import re
import reprlib
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from magictailor.common.errors import InputError
from magictailor.common.opening import open_regular

MAX_BYTES = 64 * 2**20
MOST_SHOWN = 80  # characters of a wrong value
Record = TypeVar("Record", bound=BaseModel)

# What pydantic asks for, in a user's words and with an example.
EXPECTED = {
    "int_type": "a whole number, for instance 4", "int_parsing": "a whole number, for instance 4",
    "int_from_float": "a whole number, for instance 4", "int_parsing_size": "a smaller whole number, for instance 4",
    "float_type": "a number, for instance 0.5", "float_parsing": "a number, for instance 0.5",
    "finite_number": "a finite number, for instance 0.5", "bool_type": "true or false",
    "bool_parsing": "true or false", "string_type": 'a text, for instance "a photo of {}"',
    "tuple_type": 'a list, for instance [0.9, 0.999] or ["sks", "ktn"]', "list_type": 'a list, for instance ["a", "b"]',
    "dict_type": 'a table, for instance {"kind": "lora"}', "model_type": 'a table, for instance {"weight": 0.5}',
    "model_attributes_type": 'a table, for instance {"kind": "lora"}', "missing": "it is missing",
    "extra_forbidden": "a known key", "string_unicode": "text in UTF-8",
    "string_pattern_mismatch": "a text in the form that magictailor writes",
    "json_invalid": "text in UTF-8, in tables of a few levels", "union_tag_not_found": 'a table with its kind, for instance {"kind": "lora"}',
}  # fmt: skip


def explained(error: ValidationError) -> tuple[str, str]:
    """The first mistake: its key with what was found, and how to fix it (empty where the first says it)."""
    first = error.errors(include_url=False)[0]
    kind, limits = first["type"], first.get("ctx", {})
    key = ".".join(str(part) for part in first["loc"])
    match kind:
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            word = {"greater_than": "more than", "greater_than_equal": "at least", "less_than": "less than"}
            expected = f"{word.get(kind, 'at most')} {next(iter(limits.values()))}"
        case "literal_error" | "union_tag_invalid":
            expected = f"one of {limits.get('expected') or limits.get('expected_tags')}"
        case "too_short" | "too_long":
            least = "min_length" if kind == "too_short" else "max_length"
            expected = f"a list of {'at least' if kind == 'too_short' else 'at most'} {limits[least]}"
        case "value_error":
            message = str(limits.get("error", first["msg"]))
            return (f"{key}: {shortened(first['input'])}", message) if key else (message, "")
        case _:
            expected = EXPECTED.get(kind, first["msg"])
    if kind == "missing":
        return key, expected
    return f"{key}: {shortened(first['input'])}" if key else shortened(first["input"]), f"expected {expected}"


def shortened(value: Any) -> str:
    """A wrong value, as much of it as a line can show."""
    text = reprlib.repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def read_json(path: Path, fix: str, *, field: str = "", finite: bool = True) -> Any:
    """A JSON file's content. ``finite``: refuse NaN and infinity, which Python writes and JSON does not know.

    Raises:
        InputError: no such file, no regular file, too large, not UTF-8, or no JSON.
    """
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES // 2**20} MB")
        return parsed_json(data, finite=finite)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})", fix, field=field) from error
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error})", fix, field=field) from error


def parsed_json(data: bytes, *, finite: bool = True) -> Any:
    """The content of a JSON text in UTF-8; ``finite`` as in `read_json`.

    Raises:
        ValueError: no JSON, not UTF-8, or nested too deeply.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant if finite else None)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError("not text in UTF-8") from error
    except json.JSONDecodeError as error:
        if not data.strip():
            raise ValueError("empty") from error
        cut = not error.doc[error.pos :].strip()
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError("cut short" if cut else f"not valid JSON from {where} on") from error


def parsed_toml(text: str) -> dict[str, Any]:
    """The content of a TOML text.

    Raises:
        ValueError: no TOML; it says where.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("not valid TOML: nested too deeply") from error
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(error))
        raise ValueError(f"not valid TOML {'' if where is None else f'at {where[1]}'}".strip()) from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def checked(kind: type[Record], tree: Any, path: Path | str, fix: str, *, field: str = "") -> Record:
    """The content as a record.

    Raises:
        InputError: the first value that is missing or of another type.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{path}: damaged ({'; '.join(filter(None, explained(error)))})", fix, field=field) from error


def read_record(kind: type[Record], path: Path, fix: str, *, field: str = "") -> Record:
    """`read_json` and `checked` together."""
    return checked(kind, read_json(path, fix, field=field), path, fix, field=field)
