"""The paper's tables and figures from made-up rows: rows and order, missing methods, and images side by side."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.evaluate.records import Row, first_seed, write_rows
from magictailor.evaluate.reporting.figures import draw_figure
from magictailor.evaluate.reporting.formats import FORMATS
from magictailor.evaluate.reporting.paper import FIGURES, TABLES, Sheet, Sweep
from magictailor.evaluate.reporting.tables import make_table
from magictailor.evaluate.sources import sources
from magictailor.evaluate.spec import Spec
from magictailor.generation.images import image_name
from magictailor.generation.studies import STUDIES, filled
from magictailor.methods import METHODS
from tiny import Call

WORDS = ("<cat>", "<ears>")
PAIRS = (*(f"world-{seed}" for seed in range(1, 6)), "world-6-size")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Six pairs, seven methods, the linking words; identity grows with the weight."""
    prompts = filled(STUDIES["linking-words"].prompts, WORDS)
    values = {
        "magictailor": 0.5,
        "pres-0.4": 0.6,
        "pres-1": 0.9,
        "clic": 0.2,
        "without-both": 0.1,
        "without-dm-deg": 0.3,
        "fixed-0.5": 0.4,
    }
    for pair in PAIRS:
        for method, value in values.items():
            rows = [Row(pair, method, p, 0, "judge", "identity", value) for p in prompts]
            write_rows(tmp_path / "results" / pair / f"{method}.parquet", rows, {"judge": "a judge"})
            for prompt in prompts:
                path = tmp_path / "images" / pair / method / image_name(prompt, first_seed(pair))
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (16, 16), (int(255 * value), 0, 0)).save(path)
    return tmp_path


def test_every_row_of_the_papers_tables_and_figures_is_a_method() -> None:
    assert set(TABLES) == {"1", "3", "5", "6", "7"}
    shown = [m for table in TABLES.values() for m in table.rows]
    shown += [m for f in FIGURES.values() if isinstance(f, Sweep) for m in f.values]
    shown += [m for f in FIGURES.values() if isinstance(f, Sheet) for m in f.methods]
    assert set(shown) <= set(METHODS)
    assert all(f.study is None or f.study in STUDIES for f in FIGURES.values() if isinstance(f, Sheet))


def test_a_table_of_the_paper_has_its_rows_in_its_order_also_those_not_run(home: Path) -> None:
    table = make_table(home, "3")
    assert list(table.methods) == ["without-both", "without-ds-bal", "without-dm-deg", "magictailor"]
    assert table.cells["without-ds-bal"] == {}
    assert {m: c["identity"].rank for m, c in table.cells.items() if c} == {
        "without-both": 0,
        "without-dm-deg": 2,
        "magictailor": 1,
    }
    lines = FORMATS["csv"](table).splitlines()
    assert len(lines) == 5
    assert lines[1].endswith(".275 / .837 / .798 / .317")
    assert lines[4].startswith("MagicTailor,0.5,0.5,0.5")
    with pytest.raises(InputError, match="metrics beauty: not in this bench; choose from identity"):
        make_table(home, "3", ["identity", "beauty"])
    with pytest.raises(InputError, match="choose one of 1, 3, 5, 6, 7"):
        make_table(home, "2")


def test_a_sweep_uses_the_methods_that_the_bench_has(home: Path) -> None:
    assert draw_figure(home, "8a").width > 100
    assert np.array_equal(draw_figure(home, "8a"), draw_figure(home, "8a", metrics=["identity"]))  # it has no other
    with pytest.raises(InputError, match="metrics beauty: not in this bench; choose from identity"):
        draw_figure(home, "8a", metrics=["beauty"])
    with pytest.raises(InputError, match="metrics identity: figure 4 has images"):
        draw_figure(home, "4", metrics=["identity"])
    with pytest.raises(InputError, match="fewer than two of references-1"):
        draw_figure(home, "9")
    with pytest.raises(InputError, match="figure 5 is `magictailor learning`"):
        draw_figure(home, "5")


def test_a_sweep_is_over_the_pairs_that_all_its_methods_have(home: Path) -> None:
    for pair, value in zip(PAIRS, range(6), strict=True):
        rows = [Row(pair, "magictailor", "p", 0, "judge", "identity", value / 10)]
        write_rows(home / "results" / pair / "magictailor.parquet", rows, {})
    (home / "results" / PAIRS[0] / "pres-1.parquet").unlink()
    some = draw_figure(home, "8a")
    shutil.rmtree(home / "results" / PAIRS[0])
    assert np.array_equal(some, draw_figure(home, "8a"))
    for pair in PAIRS[1:]:
        (home / "results" / pair / f"pres-{'1' if pair == PAIRS[1] else '0.4'}.parquet").unlink()
    with pytest.raises(InputError, match="no pair in common"):
        draw_figure(home, "8a")


def test_sheets_show_the_right_images_side_by_side(home: Path) -> None:
    """Each image has its method's red; cells are 128 pixels."""

    def reds(sheet: Image.Image) -> set[int]:
        pixels = np.asarray(sheet)
        red = pixels[(pixels[..., 1] == 0) & (pixels[..., 2] == 0)]
        values, counts = np.unique(red[:, 0], return_counts=True)
        return {int(v) for v, n in zip(values, counts, strict=True) if n >= 128 * 128}

    assert reds(draw_figure(home, "4")) == {102, 127}
    assert reds(draw_figure(home, "16")) == {127}
    assert reds(draw_figure(home, "table-7")) == {127}  # of its two methods the bench has one
    assert draw_figure(home, "16").width > 1.5 * draw_figure(home, "4").width
    assert reds(draw_figure(home, "12")) == {51, 127}
    assert draw_figure(home, "12").height < draw_figure(home, "4").height  # the difficult pair alone
    assert reds(draw_figure(home, "12", ["magictailor"])) == {127}
    with pytest.raises(InputError, match=r"methods frozen: not in .*; add it to the spec's methods"):
        draw_figure(home, "12", ["frozen"])
    with pytest.raises(InputError, match="methods magictailor: figure 8a has curves"):
        draw_figure(home, "8a", ["magictailor"])
    shutil.rmtree(home / "images" / "world-6-size")
    with pytest.raises(InputError, match="the images of difficult pairs are gone"):
        draw_figure(home, "12")


def test_pairs_of_a_challenge_in_a_spec() -> None:
    spec = Spec.model_validate({"pairs": ["world:1000000000+2-size", "world:1000000000", "world:1000000000-novel"]})
    found = sources(spec, Path())
    names = ["world-1000000000-size", "world-1000000001-size", "world-1000000000", "world-1000000000-novel"]
    assert [s.name for s in found] == names
    worlds = [s.world for s in found if s.world is not None]
    assert [pair.challenge for pair in worlds] == ["size", "size", worlds[2].challenge, "novel"]
    assert worlds[3].held_out


def test_the_commands(home: Path, call: Call) -> None:
    result = call("bench", "table", home, "--paper", "3")
    assert (result.code, result.out.count("\n")) == (0, 6)
    result = call("bench", "table", home, "--metrics", "identity", "--format", "csv")
    assert result.out.startswith("method,identity,identity low,identity high,training s")
    result = call("bench", "figure", home, "8a", "--output", home / "figure.png", "--metrics", "identity")
    assert (result.code, (home / "figure.png").is_file()) == (0, True)
    result = call("bench", "figure", home, "7", "--output", home / "other.png")
    assert (result.code, (home / "other.png").exists()) == (2, False)
    result = call("bench", "figure", home, "8a", "--output", home / "other.png", "--metrics", "beauty")
    assert (result.code, (home / "other.png").exists()) == (2, False)
    assert "--metrics beauty: not in this bench" in result.err
    result = call("bench", "table", home, "--paper", "2")
    assert result.code == 2
