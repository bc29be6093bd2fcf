"""Tables, contrasts and verdicts from rows whose answers are known."""

import json
import math
from pathlib import Path

import pytest

from magictailor.common.errors import InputError
from magictailor.evaluate.records import Row, write_rows
from magictailor.evaluate.reporting.contrasts import contrasts, verdicts
from magictailor.evaluate.reporting.tables import FORMATS, make_table
from tiny import Call


def test_a_table_means_over_pairs_and_marks_the_best(tmp_path: Path) -> None:
    values = {
        "magictailor": {**dict.fromkeys("ace", (1, 1, 1, 1)), **dict.fromkeys("bdf", (0, 0))},
        "clic": {**dict.fromkeys("ace", (0, 0, 0, 0)), **dict.fromkeys("bdf", (0.5, 0.5))},
        "dreambooth": {**dict.fromkeys("ace", (0, 0, 0, 0)), **dict.fromkeys("bdf", (0, 0))},
        "frozen": {"a": (1, 1, 1, 1)},  # the best, but on one pair alone
    }
    for method, pairs in values.items():
        for pair, scores in pairs.items():
            rows = [Row(pair, method, "p", i, "judge", "found", float(v)) for i, v in enumerate(scores)]
            rows.append(Row(pair, method, "q", 0, "judge", "found", math.nan))
            write_rows(tmp_path / "results" / pair / f"{method}.parquet", rows, {})
    (tmp_path / "costs" / "a").mkdir(parents=True)
    (tmp_path / "costs" / "a" / "clic.json").write_text(
        json.dumps({"seconds": 12.0, "peak_gb": None, "bytes": 3_000_000})
    )
    (tmp_path / "costs" / "z").mkdir()  # trained but not scored: not in the mean
    (tmp_path / "costs" / "z" / "clic.json").write_text(json.dumps({"seconds": 99.0, "bytes": 9}))
    table = make_table(tmp_path)
    means = {m: c["found"].interval.mean for m, c in table.cells.items()}
    assert means == {
        "dreambooth": 0,
        "clic": 0.25,
        "magictailor": 0.5,
        "frozen": 1,
    }  # pairs have equal weights, whatever their number of images
    assert {m: c["found"].rank for m, c in table.cells.items()} == {
        "magictailor": 1,
        "clic": 2,
        "dreambooth": 0,
        "frozen": 0,
    }
    assert table.costs["clic"] == {"seconds": 12, "bytes": 3}
    made = {name: make(table) for name, make in FORMATS.items()}
    assert "**0.500** [0.167, 0.833]" in made["markdown"]
    assert r"\underline{0.250}" in made["latex"]
    assert ".270 / .854 / .813 / .279" in made["text"]
    assert len(made["csv"].splitlines()) == 5


def test_nothing_is_ranked_on_few_pairs(tmp_path: Path) -> None:
    for method in ("clic", "magictailor"):
        for pair in range(5):
            rows = [Row(str(pair), method, "p", 0, "judge", "found", float(method == "clic"))]
            write_rows(tmp_path / "results" / str(pair) / f"{method}.parquet", rows, {})
    assert {cell.rank for cells in make_table(tmp_path).cells.values() for cell in cells.values()} == {0}


def test_equal_methods_share_a_rank(tmp_path: Path) -> None:
    scores = {"clic": (0.1, 0.2), "magictailor": (0.2, 0.1), "dreambooth": (0.0, 0.1)}
    for method, values in scores.items():
        for pair, value in zip("abcdef", values * 3, strict=True):
            rows = [Row(pair, method, "p", 0, "judge", "found", value)]
            write_rows(tmp_path / "results" / pair / f"{method}.parquet", rows, {})
    cells = make_table(tmp_path).cells
    assert {m: c["found"].rank for m, c in cells.items()} == {"clic": 1, "magictailor": 1, "dreambooth": 0}


def test_contrasts_are_paired_and_tested(tmp_path: Path) -> None:
    scores = {
        "magictailor": [0.9, 0.5, 0.8, 0.4, 0.7, 0.6],
        "clic": [0.7, 0.3, 0.6, 0.2, 0.5, 0.4],
        "dreambooth": [0.8, 0.4, 0.9, 0.5, 0.6, 0.7],
    }
    for method, values in scores.items():
        for pair, value in enumerate(values):
            write_rows(
                tmp_path / "results" / str(pair) / f"{method}.parquet",
                [Row(str(pair), method, "p", 0, "judge", "found", value)],
                {},
            )
    found = {c.method: c for c in contrasts(tmp_path, "magictailor")}
    assert found["clic"].interval.mean == pytest.approx(-0.2)
    assert found["clic"].p == 2 / 64
    assert (found["clic"].result, found["dreambooth"].result) == ("worse", "no difference shown")
    assert found["dreambooth"].detectable > 0.05
    with pytest.raises(InputError, match="against other: not in this bench"):
        contrasts(tmp_path, "other")


def test_a_contrast_is_over_the_images_with_a_value_from_both_methods(tmp_path: Path) -> None:
    for pair in range(6):
        values = {"clic": (0.2, 0.9), "magictailor": (0.3, math.nan)}
        for method, seen in values.items():
            rows = [Row(str(pair), method, "p", seed, "judge", "imbalance", value) for seed, value in enumerate(seen)]
            write_rows(tmp_path / "results" / str(pair) / f"{method}.parquet", rows, {})
    (found,) = contrasts(tmp_path, "clic")
    assert found.differences == (pytest.approx(0.1),) * 6
    assert found.result == "worse"


def test_pairs_that_do_not_differ_show_nothing(tmp_path: Path) -> None:
    values = {"clic": [0.5] * 8, "magictailor": [0.6] * 5 + [0.5] * 3}
    for method, by_pair in values.items():
        for pair, value in enumerate(by_pair):
            rows = [Row(str(pair), method, "p", 0, "judge", "text", value)]
            write_rows(tmp_path / "results" / str(pair) / f"{method}.parquet", rows, {})
    (found,) = contrasts(tmp_path, "clic")
    assert found.result == "no difference shown"
    assert math.isnan(found.detectable)


def test_claims_of_the_paper_hold_are_not_shown_or_the_opposite(tmp_path: Path, call: Call) -> None:
    values = {
        "magictailor": ([0.9, 0.8, 0.9, 0.8, 0.9, 0.8], [0.1] * 6),
        "clic": ([0.5, 0.4, 0.5, 0.4, 0.5, 0.4], [0.1] * 6),
        "dreambooth": ([0.95, 0.85, 0.95, 0.85, 0.95, 0.86], [0.1] * 6),
        "mask-out": ([0.8, 0.9, 0.8, 0.9, 0.8, 0.9], [0.1] * 6),
        "without-dm-deg": ([0.9, 0.8, 0.9, 0.8, 0.9, 0.8], [0.3, 0.4, 0.3, 0.4, 0.5, 0.3]),
    }
    for method, (identity, pollution) in values.items():
        for pair in range(6):
            rows = [
                Row(str(pair), method, "p", 0, "judge", "identity", identity[pair]),
                Row(str(pair), method, "p", 0, "judge", "pollution", pollution[pair]),
            ]
            write_rows(tmp_path / "results" / str(pair) / f"{method}.parquet", rows, {})
    results = {(v.claim.worse, v.claim.metric): v.result for v in verdicts(tmp_path)}
    assert results == {
        ("clic", "identity"): "holds",
        ("dreambooth", "identity"): "the opposite",
        ("mask-out", "identity"): "not shown",
        ("without-dm-deg", "identity"): "not shown",
        ("without-dm-deg", "pollution"): "holds",  # lower is better
    }
    result = call("bench", "claims", tmp_path, "--format", "markdown")
    assert result.code == 0
    assert "| keeps identities better than clic (table 1) | holds | identity | +0.400 [" in result.out
