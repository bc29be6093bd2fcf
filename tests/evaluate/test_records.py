"""Files of scores: what is written comes back, and a damaged file is named."""

from pathlib import Path

import pytest

from magictailor import InputError
from magictailor.evaluate.records import Row, read_summary, read_trial, write_rows
from tiny import Call


def test_rows_come_back_and_their_bytes_do_not_depend_on_order(tmp_path: Path) -> None:
    rows = [Row("a", "m", "p", i, "judge", "x", 0.5 * i) for i in range(3)]
    write_rows(tmp_path / "one.parquet", rows, {"judge": "b", "a": "c"})
    write_rows(tmp_path / "two.parquet", rows[::-1], {"a": "c", "judge": "b"})
    assert read_trial(tmp_path / "one.parquet") == (rows, {"judge": "b", "a": "c"})
    assert read_trial(tmp_path / "none.parquet") == ([], {})
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="delete it"):
        read_trial(tmp_path / "bad.parquet")


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_scores_that_are_no_numbers_are_refused_by_name(value: float, tmp_path: Path, call: Call) -> None:
    path = tmp_path / "results" / "a" / "m.parquet"
    marks = [Row("a", "m", "p", seed, "judge", "", float("nan")) for seed in (1, 2)]
    write_rows(path, [*marks, Row("a", "m", "p", 3, "judge", "x", 0.5)], {"judge": "j"})
    assert call("bench", "table", tmp_path).code == 0
    write_rows(path, [*marks, Row("a", "m", "p", 3, "judge", "x", value)], {"judge": "j"})
    result = call("bench", "table", tmp_path)
    assert (result.code, f"{path}: damaged (a value of x is {value})" in result.err) == (2, True), result


@pytest.mark.parametrize(
    ("key", "content", "words"),
    [
        ("scored", "[" * 5000, "nested too deeply"),
        ("scored", "[]", "expected a table"),
        ("scored", '{"judge": 3}', "judge: 3"),
        ("scored", '{"judge": {"model": "j", "images": {"p": [5]}}}', "judge.images.p.0: 5"),
        ("scored", '{"judge": {"model": "j", "images": {"p": [[1, 1000000000000]]}}}', "more images than it has rows"),
        ("words", "3", "expected a list"),
        ("words", "{", "damaged"),
        ("format", "9" * 5000, "newer version"),
    ],
)
def test_a_damaged_footer_of_scores_is_named_in_one_line(key: str, content: str, words: str, tmp_path: Path) -> None:
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    write_rows(path, [Row("a", "m", "p", 1, "judge", "x", 0.5)], {"judge": "j"}, ["<p>"])
    table = pyarrow.parquet.read_table(path)
    metadata = {**table.schema.metadata, f"magictailor.{key}".encode(): content.encode()}
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(InputError, match=words) as refused:
        read_summary(path)
    assert str(path) in str(refused.value)
    assert "object" not in str(refused.value)


def test_scores_of_other_types_and_of_a_newer_format_are_refused_by_name(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    write_rows(path, [Row("a", "m", "p", 1, "judge", "x", 0.5)], {"judge": "j"})
    table = pyarrow.parquet.read_table(path)
    text = table.set_column(table.schema.get_field_index("value"), "value", pyarrow.array(["high"]))
    newer = table.replace_schema_metadata({b"magictailor.format": b"99"})
    for changed, words in (
        (text, "damaged"),
        (newer, "newer version"),
        (table.drop_columns(["seed"]), "damaged"),
        (table.replace_schema_metadata({}), "not the scores"),
    ):
        pyarrow.parquet.write_table(changed, path)
        with pytest.raises(InputError, match=words):
            read_trial(path)


def test_scores_from_before_formats_had_numbers_are_read(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {
        "pair": ["a"],
        "method": ["m"],
        "prompt": ["p"],
        "seed": [7],
        "metric": ["judge"],
        "figure": ["x"],
        "value": [0.5],
    }
    table = pyarrow.table(columns).replace_schema_metadata({b"magictailor.judges": b'{"judge": "j"}'})
    pyarrow.parquet.write_table(table, tmp_path / "old.parquet")
    assert read_trial(tmp_path / "old.parquet") == ([Row("a", "m", "p", 7, "judge", "x", 0.5)], {"judge": "j"})
    assert read_summary(tmp_path / "old.parquet").missing("judge", "j", {("p", 7), ("p", 8)}) == {("p", 8)}
