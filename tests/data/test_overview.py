"""The overview of a pair: coverage in numbers and in a contact sheet; PNG files are written whole."""

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from magictailor.common.errors import RunError
from magictailor.common.pictures import grid, overlay, save_png
from magictailor.data import Pair, ReferenceImage, Sample, coverage_warnings, describe, overview


def reference(name: str, columns: int) -> ReferenceImage:
    """A grey image of 200 x 100 whose mask covers this many columns."""
    mask = Image.new("L", (200, 100))
    mask.paste(255, (0, 0, columns, 100))
    return ReferenceImage.of(Path("folder") / name, Image.new("RGB", (200, 100), (128, 128, 128)), mask)


PAIR = Pair(
    "my [b]pair",
    (
        Sample("person", "<ada>", (reference("a.jpg", 50), reference("[red]b.jpg", 1))),
        Sample("long hair", "<hair>", (reference("c.jpg", 195),)),
    ),
)


def test_the_table_shows_each_image_with_its_coverage() -> None:
    console = Console(width=120, file=StringIO())
    with console.capture() as captured:
        console.print(describe(PAIR))
    lines = captured.get().splitlines()
    assert "my [b]pair" in lines[0]  # names are not taken for markup
    for expected in (
        ["0", "<ada>", "person", "a.jpg", "200 x 100", "25.0"],
        ["0", "<ada>", "person", "[red]b.jpg", "200 x 100", "0.5"],
        ["1", "<hair>", "long hair", "c.jpg", "200 x 100", "97.5"],
    ):
        assert sum(all(cell in line for cell in expected) for line in lines) == 1
    assert sum("warning" in line for line in lines) == 2


def test_unusual_coverage_is_warned_of() -> None:
    small, large = coverage_warnings(PAIR)
    assert small == "warning: the mask of [red]b.jpg covers 0.5 % of the photo: crop closer"
    assert large.startswith("warning: the mask of c.jpg covers 97.5 %")


def test_the_overview_has_one_row_per_sample() -> None:
    sheet = overview(PAIR, cell=64)
    assert sheet.mode == "RGB"
    assert 2 * 64 <= sheet.height < 3 * 64
    assert sheet.width >= 2 * 64


def test_overlay_tints_inside_and_dims_outside() -> None:
    image = Image.new("RGB", (40, 40), (128, 128, 128))
    mask = Image.new("L", (40, 40))
    mask.paste(255, (10, 10, 30, 30))
    shown = np.asarray(overlay(image, mask, (255, 0, 0)), int)
    assert tuple(shown[10, 20]) == (255, 0, 0)  # the outline
    red, green, blue = shown[20, 20]
    assert red > 128 > green == blue
    assert (shown[5, 5] > 128).all()
    assert len(set(shown[5, 5])) == 1


def test_small_images_are_enlarged_without_smoothing() -> None:
    board = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8))
    sheet = np.asarray(grid([[board]], cell=64))
    assert sheet.shape == (72, 72, 3)
    assert set(np.unique(sheet)) == {0, 255}
    assert (sheet[4:36, 4:36] == 0).all()


def test_a_grid_takes_ragged_rows_and_titles() -> None:
    image = Image.new("RGB", (300, 100), "black")
    bare = grid([[image, image], [image]], cell=50)
    titled = grid([[image, image], [image]], ["one", "two"], ["a long title that wraps", "b", "c"], cell=50)
    assert bare.size == (2 * 54 + 4, 2 * 54 + 4)
    assert titled.width > bare.width + 50  # three columns by the titles
    assert titled.height > bare.height
    assert grid([], cell=50).size == (4, 4)


def test_png_files_carry_text_and_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    save_png(Image.new("RGB", (8, 8), "red"), path, {"prompt": "<ada>, Ukiyo-e 浮世絵", "seed": "3"})
    with Image.open(path) as back:
        assert back.info == {"prompt": "<ada>, Ukiyo-e 浮世絵", "seed": "3"}
    before = path.read_bytes()
    with pytest.raises(RunError, match="could not write"):
        save_png(Image.new("HSV", (8, 8)), path)  # PNG has no such mode
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]
    with pytest.raises(RunError, match="choose another folder"):
        save_png(Image.new("RGB", (8, 8)), path / "b.png")
