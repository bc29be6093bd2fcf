"""Damaged JSON and TOML: one line in our words, which says where."""

from pathlib import Path

import pytest

from magictailor.common.errors import InputError
from magictailor.common.records import parsed_toml, read_json
from magictailor.data import read_pair
from magictailor.evaluate.spec import read_spec
from magictailor.study.design import parse_study


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b'{"a": [1, 2', "cut short"),
        (b'{"a": 1}\n{"b": 2}', "not valid JSON from line 2, column 1 on"),
        (b"{'a': 1}", "not valid JSON from line 1, column 2 on"),
        (b'{"a": "\xff"}', "not text in UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_json_file(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json(path, "train again")
    assert str(caught.value) == f"{path}: damaged ({reason}); train again"


def test_where_a_toml_text_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"^not valid TOML at line 2, column 3$"):
        parsed_toml("a = 1\nb 2\n")
    with pytest.raises(ValueError, match=r"^not valid TOML at end of document$"):
        parsed_toml('a = "')


def test_every_reader_of_toml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "pair.toml"
    path.write_text("name = 'x'\nsamples [\n")
    for read in (read_pair, read_spec, lambda p: parse_study(p.read_text(), p)):
        with pytest.raises(InputError, match="not valid TOML at line 2, column 9"):
            read(path)
