"""Tables, contrasts and verdicts from rows whose answers are known."""

import math
from pathlib import Path

import numpy as np
import pytest

from magictailor.common.errors import InputError
from magictailor.evaluate.costs import Cost, Timed, write_cost
from magictailor.evaluate.design import fix_design
from magictailor.evaluate.records import Row, write_rows
from magictailor.evaluate.reporting.contrasts import contrasts, named_contrasts, verdicts
from magictailor.evaluate.reporting.factorial import CELLS, factorial
from magictailor.evaluate.reporting.formats import FORMATS
from magictailor.evaluate.reporting.mixed import mixed_effect
from magictailor.evaluate.reporting.repeats import repeat_lines
from magictailor.evaluate.reporting.report import write_report
from magictailor.evaluate.reporting.shares import share_means
from magictailor.evaluate.reporting.tables import make_table
from magictailor.evaluate.scores import read_scores
from magictailor.evaluate.spec import Endpoint, Spec
from magictailor.evaluate.stores import FolderStore
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
            rows.append(Row(pair, method, "q", 0, "judge", "", math.nan))
            write_rows(tmp_path / "results" / pair / f"{method}.parquet", rows, {})
    write_cost(tmp_path / "costs" / "a" / "clic.json", Cost(seconds=12.0, bytes=3_000_000))
    write_cost(tmp_path / "costs" / "z" / "clic.json", Cost(seconds=99.0, bytes=9))  # not scored: not in the mean
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


def test_recipes_and_budgets_stand_under_a_table(tmp_path: Path) -> None:
    for pair, seconds in (("a", 10.0), ("b", 30.0)):
        write_rows(tmp_path / "results" / pair / "clic.parquet", [Row(pair, "clic", "p", 0, "judge", "text", 1.0)], {})
        timed = Timed(images=4, seconds=seconds / 5)
        cost = Cost(seconds=seconds, images_seen=600, recipe="300 steps; seed 0", generated=timed)
        write_cost(tmp_path / "costs" / pair / "clic.json", cost)
    table = make_table(tmp_path)
    assert table.costs["clic"] == {"seconds": 20, "images_seen": 600, "bytes": 0, "image_seconds": 1}
    assert FORMATS["text"](table).splitlines()[2] == "clic: 300 steps"


def test_floor_and_ceiling_are_rows_without_a_rank_and_shares_lie_between_them(tmp_path: Path) -> None:
    """The concept's floor is the owner, the component's the concept with its own one."""
    errors = {
        "nothing-transferred": (0.1, 0.8),
        "owner": (0.9, 0.1),
        "truth": (0.1, 0.2),
        "clic": (0.5, 0.5),
        "magictailor": (0.3, 0.2),
    }
    for pair in "abcdef":
        for method, (concept, component) in errors.items():
            rows = [Row(pair, method, "p", 0, "judge", "concept error", concept)]
            rows.append(Row(pair, method, "p", 0, "judge", "component error", component))
            if method in ("clic", "magictailor"):  # a prompt that the anchors do not have
                rows.append(Row(pair, method, "q", 0, "judge", "component error", 0.2))
            write_rows(tmp_path / "results" / pair / f"{method}.parquet", rows, {})
    table, scores = make_table(tmp_path), read_scores(tmp_path)
    assert list(table.methods) == ["nothing-transferred", "owner", "clic", "magictailor", "truth"]
    assert [table.cells[m]["concept error"].rank for m in table.methods] == [0, 0, 2, 1, 0]
    assert share_means(scores, "clic", "concept share") == pytest.approx(dict.fromkeys("abcdef", 0.5))
    assert share_means(scores, "clic", "component share") == pytest.approx(dict.fromkeys("abcdef", 0.5))  # without "q"
    assert share_means(scores, "truth", "component share") == dict.fromkeys("abcdef", 1.0)
    assert table.cells["magictailor"]["component share"].interval.mean == pytest.approx(1)


def test_the_two_techniques_are_taken_apart(tmp_path: Path) -> None:
    """DM-Deg adds .1, DS-Bal .02, both together .03 more."""
    values = dict(zip(CELLS, (0.5, 0.6, 0.52, 0.65), strict=True))
    for number in range(8):
        for method, value in values.items():
            rows = [Row(str(number), method, "p", 0, "judge", "identity", value + number / 100)]
            write_rows(tmp_path / "results" / str(number) / f"{method}.parquet", rows, {})
    effects = {c.method: c for c in factorial(read_scores(tmp_path), ["identity"])}
    assert effects["DM-Deg"].interval.mean == pytest.approx((0.1 + 0.13) / 2)
    assert effects["DS-Bal"].interval.mean == pytest.approx((0.02 + 0.05) / 2)
    assert effects["DM-Deg x DS-Bal"].interval.mean == pytest.approx(0.03 / 2)
    assert {c.result for c in effects.values()} == {"better"}  # 3 times 2 / 256


def test_training_seeds_are_paired_and_named_contrasts_are_corrected(tmp_path: Path) -> None:
    """The second training seed of one method alone does not count."""
    for pair in range(8):
        for method, value in (("clic", 0.5), ("magictailor", 0.6)):
            rows = [Row(str(pair), method, "p", 0, "judge", "identity", value)]
            write_rows(tmp_path / "results" / str(pair) / f"{method}.parquet", rows, {})
        second = [Row(str(pair), "clic", "p", 0, "judge", "identity", 0.0, training_seed=1)]
        write_rows(tmp_path / "results" / str(pair) / "clic@1.parquet", second, {})
    scores = read_scores(tmp_path)
    ends = [Endpoint(method="magictailor", against="clic", metric=m) for m in ("identity", "text")]
    (found,) = named_contrasts(scores, ends)
    assert found.differences == (0.1,) * 8
    assert (found.p, found.corrected) == (2 / 256, 2 / 256)
    assert found.gain == pytest.approx(0.1 / 0.5)


def test_trainings_with_other_seeds_scatter_and_images_do_not_count(tmp_path: Path) -> None:
    """Two trainings whose means differ by .1 have a standard deviation of .1 / sqrt(2), whatever their images do."""
    for training in (0, 1):
        rows = [
            Row("a", "clic", "p", seed, "judge", "identity", 0.5 + 0.1 * training + 0.2 * seed, training_seed=training)
            for seed in range(2)
        ]
        name = "clic@1" if training else "clic"
        write_rows(tmp_path / "results" / "a" / f"{name}.parquet", rows, {})
    write_rows(tmp_path / "results" / "b" / "clic.parquet", [Row("b", "clic", "p", 0, "judge", "identity", 0.9)], {})
    found = repeat_lines(read_scores(tmp_path), ["identity"])
    assert found == [["method", "identity", "pairs"], ["clic", "0.071", "1"]]


def test_no_worse_by_a_margin_is_read_in_the_metrics_direction(tmp_path: Path) -> None:
    """KID is lower where it is better: 3 more is worse, though not by 5."""
    for pair in range(8):
        for method, value in (("clic", 20.0), ("magictailor", 23.0)):
            rows = [Row(str(pair), method, "p", 0, "quality", "kid", value)]
            write_rows(tmp_path / "results" / str(pair) / f"{method}.parquet", rows, {})
    scores = read_scores(tmp_path)
    ends = [Endpoint(method="magictailor", against="clic", metric="kid", margin=margin) for margin in (5, 2, None)]
    found = [contrast.result for end in ends for contrast in named_contrasts(scores, [end])]
    assert found == ["no worse by 5", "may be worse by 2", "worse"]


def test_a_report_says_how_many_of_the_planned_pairs_it_is_a_look_at(tmp_path: Path) -> None:
    end = {"method": "magictailor", "against": "clic", "metric": "identity"}
    plan = Spec(pairs=("world:6",), methods=("magictailor", "clic"), primary=Endpoint(**end))
    fix_design(plan, FolderStore(tmp_path), tmp_path, 24)
    for pair in range(7):
        for method, value in (("clic", 0.5), ("magictailor", 0.6)):
            rows = [Row(str(pair), method, "p", 0, "judge", "identity", value)]
            write_rows(tmp_path / "results" / str(pair) / f"{method}.parquet", rows, {})
    page = write_report(tmp_path, tmp_path / "report.html").read_text()
    assert "before there were scores" in page
    assert "an interim look at 7 of 24 planned pairs" in page


def test_a_mixed_model_takes_clauses_and_not_words_as_prompts(tmp_path: Path) -> None:
    pytest.importorskip("statsmodels")
    rng = np.random.default_rng(0)
    effect = {"on the beach": 0.3, "at night": -0.1}
    for pair in range(6):
        for method, gain in (("clic", 0.0), ("magictailor", 1.0)):
            rows = [
                Row(
                    str(pair),
                    method,
                    f"<w{pair}>, {clause}",
                    seed,
                    "judge",
                    "identity",
                    gain * (0.1 + value) + rng.normal(0, 0.01),
                )
                for clause, value in effect.items()
                for seed in range(3)
            ]
            write_rows(tmp_path / "results" / str(pair) / f"{method}.parquet", rows, {})
    found = mixed_effect(read_scores(tmp_path), "magictailor", "clic", "identity")
    assert (found.pairs, found.rows) == (6, 36)
    assert found.estimate == pytest.approx(0.2, abs=0.01)
    assert max(found.variance, key=found.variance.__getitem__) == "prompt"


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
        "magictailor": [0.9, 0.5, 0.8, 0.4, 0.7, 0.6, 0.9],
        "clic": [0.7, 0.3, 0.6, 0.2, 0.5, 0.4, 0.7],
        "dreambooth": [0.8, 0.4, 0.9, 0.5, 0.6, 0.7, 0.8],
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
    assert (found["clic"].p, found["clic"].corrected) == (2 / 128, 4 / 128)
    assert (found["clic"].result, found["dreambooth"].result) == ("worse", "no difference shown")
    assert found["dreambooth"].detectable > 0.05
    with pytest.raises(InputError, match="against other: not in this bench"):
        contrasts(tmp_path, "other")


def test_a_contrast_is_over_the_images_with_a_value_from_both_methods(tmp_path: Path) -> None:
    for pair in range(6):
        values = {"clic": (0.2, 0.9), "magictailor": (0.3, math.nan)}
        for method, seen in values.items():
            names = ["" if math.isnan(value) else "imbalance" for value in seen]
            rows = [Row(str(pair), method, "p", seed, "judge", names[seed], value) for seed, value in enumerate(seen)]
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


def test_claims_of_the_paper_hold_do_not_hold_or_cannot_be_told(tmp_path: Path, call: Call) -> None:
    values = {
        "magictailor": ([0.9, 0.8] * 5, [0.1] * 10),
        "clic": ([0.5, 0.4] * 5, [0.1] * 10),
        "dreambooth": ([0.95, 0.85] * 4 + [0.95, 0.86], [0.1] * 10),
        "mask-out": ([0.8, 0.9] * 5, [0.1] * 10),
        "without-dm-deg": ([0.9, 0.8] * 5, [0.3, 0.4, 0.3, 0.4, 0.5, 0.3, 0.3, 0.4, 0.3, 0.4]),
    }
    for method, (identity, pollution) in values.items():
        for pair in range(10):
            rows = [
                Row(str(pair), method, "p", 0, "judge", "identity", identity[pair]),
                Row(str(pair), method, "p", 0, "judge", "pollution", pollution[pair]),
            ]
            write_rows(tmp_path / "results" / str(pair) / f"{method}.parquet", rows, {})
    results = {(v.claim.worse, v.claim.metric): v.result for v in verdicts(tmp_path)}
    assert results == {
        ("clic", "identity"): "holds",
        ("dreambooth", "identity"): "does not hold",
        ("mask-out", "identity"): "undecided",
        ("without-dm-deg", "identity"): "undecided",
        ("without-dm-deg", "pollution"): "holds",  # lower is better
    }
    clic = next(v for v in verdicts(tmp_path) if v.claim.worse == "clic" and v.claim.metric == "identity")
    assert clic.contrast.gain == pytest.approx(0.4 / 0.55)
    assert clic.published == "+38% CLIP-I, +45% DINO, +44% DreamSim"  # (.854 - .764) / (1 - .764), ...
    result = call("bench", "claims", tmp_path, "--format", "markdown")
    assert result.code == 0
    assert "| keeps identities better than clic (table 1) | holds | identity | +0.400 [" in result.out
