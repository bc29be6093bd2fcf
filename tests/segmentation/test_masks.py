"""From regions with known scores to masks: selection, subtraction, and advice when nothing is found."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.data import read_pair
from magictailor.segmentation import Segmenter, load_segmenter, make_masks, read_box
from magictailor.segmentation.grabcut import grabcut
from magictailor.segmentation.masks import read_counts, regions_of
from magictailor.segmentation.regions import (
    Box,
    Region,
    best_regions,
    bounding_box,
    intersection_over_union,
    non_maximum_suppression,
    subtract,
    union,
)

SIDE = 40


def region(score: float, box: Box) -> Region:
    mask = np.zeros((SIDE, SIDE))
    left, top, right, bottom = map(int, box)
    mask[top:bottom, left:right] = 1
    return Region(score, box, mask)


BODY, HEAD = region(0.9, (5, 5, 35, 40)), region(0.8, (10, 5, 30, 15))
LEFT, RIGHT, THIRD = (region(s, b) for s, b in ((0.6, (0, 0, 8, 8)), (0.7, (30, 0, 38, 8)), (0.5, (0, 30, 8, 38))))


class Known(Segmenter):
    """A segmenter that finds given regions in any image."""

    def __init__(self, **found: Sequence[Region]) -> None:
        self.found, self.asked = found, list[tuple[str, ...]]()

    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        self.asked.append(tuple(words))
        return {word: list(self.found.get(word, ())) for word in words}


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A pair of one image each, without masks."""
    for name in ("0_cat_1", "1_hair_1"):
        Image.new("RGB", (SIDE, SIDE), (90, 120, 150)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_overlap_of_boxes() -> None:
    assert intersection_over_union((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert intersection_over_union((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert intersection_over_union((0, 0, 10, 10), (20, 20, 30, 30)) == 0
    assert intersection_over_union((1, 1, 1, 1), (1, 1, 1, 1)) == 0


def test_suppression_keeps_the_better_of_two_that_overlap_much() -> None:
    twin = region(0.95, (5, 5, 35, 39))
    assert non_maximum_suppression([BODY, twin, HEAD]) == [twin, HEAD]
    assert non_maximum_suppression([BODY, twin, HEAD], overlap=0.99) == [twin, BODY, HEAD]


def test_the_best_regions_above_the_threshold_are_selected() -> None:
    assert best_regions([LEFT, RIGHT, THIRD], 0.0, 2) == [RIGHT, LEFT]
    assert best_regions([LEFT, RIGHT, THIRD], 0.65, 2) == [RIGHT]
    assert best_regions([LEFT], 0.61, 1) == []
    both = union(best_regions([LEFT, RIGHT], 0, 2), (SIDE, SIDE))
    assert both.sum() == 2 * 64
    assert union([], (30, 20)).shape == (20, 30)


def test_subtraction_keeps_soft_values() -> None:
    mask = subtract(np.full((2, 2), 0.8), [np.full((2, 2), 0.5)])
    assert np.allclose(mask, 0.4)
    assert bounding_box(HEAD.mask) == HEAD.box
    assert bounding_box(np.zeros((4, 4))) == (0, 0, 0, 0)


def test_what_comes_in_pairs_has_two_regions() -> None:
    assert [regions_of(w, {}) for w in ("ears", "cat", "front wheels", "Eyes", "ear")] == [2, 1, 2, 2, 2]
    assert regions_of("ears", {"ears": 1}) == 1
    assert read_counts(["long hair=3"]) == {"long hair": 3}
    for text in ("ears", "ears=0", "ears=two", "=2"):
        with pytest.raises(InputError, match="not a count"):
            read_counts([text])


def test_masks_are_written_and_the_component_is_not_in_the_concepts(bare: Path) -> None:
    segmenter = Known(cat=[BODY], hair=[HEAD])
    made = make_masks(bare, segmenter)
    assert segmenter.asked == [("cat", "hair"), ("hair",)]  # nothing is subtracted from a component
    assert [(m.label, m.score, m.regions) for m in made] == [("cat", 0.9, 1), ("hair", 0.8, 1)]
    pair = read_pair(bare)
    cat, hair = (np.asarray(s.references[0].mask) / 255 for s in pair.samples)
    assert np.array_equal(hair, HEAD.mask)
    assert np.array_equal(cat, BODY.mask * (1 - HEAD.mask))
    summary = json.loads((bare / "masks" / "found" / "scores.json").read_text())
    assert [row["score"] for row in summary] == [0.9, 0.8]
    assert (bare / "masks" / "found" / "masks" / "overview.png").exists()


def test_existing_masks_are_kept_unless_asked(bare: Path) -> None:
    (bare / "masks").mkdir()
    mine = Image.new("L", (SIDE, SIDE), 255)
    mine.save(bare / "masks" / "0_cat_1.png")
    made = make_masks(bare, Known(cat=[BODY], hair=[HEAD]))
    assert [(m.note, m.score) for m in made] == [("kept", None), ("", 0.8)]
    assert Image.open(bare / "masks" / "0_cat_1.png").tobytes() == mine.tobytes()
    make_masks(bare, Known(cat=[BODY], hair=[HEAD]), overwrite=True)
    assert Image.open(bare / "masks" / "0_cat_1.png").tobytes() != mine.tobytes()


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        ({"cat": [BODY]}, "hair: nothing found; try another word for it, model grabcut"),
        ({"cat": [BODY], "hair": [region(0.2, HEAD.box)]}, "hair: the best score is 0.20; try threshold 0.18"),
        ({"cat": [HEAD], "hair": [region(0.9, (0, 0, 40, 40))]}, "cat: all of it belongs to another component"),
    ],
)
def test_nothing_found_gives_advice_and_writes_no_other_mask(
    found: dict[str, list[Region]], advice: str, bare: Path
) -> None:
    made = make_masks(bare, Known(**found))
    (missing,) = [m for m in made if m.missing]
    assert advice in missing.note
    assert [p.name for p in (bare / "masks").iterdir()] == [m.mask.name for m in made if m.mask is not None]
    again = make_masks(bare, Known(cat=[BODY], hair=[HEAD]))  # what was found before is kept
    assert [m.note for m in again].count("kept") == 1
    assert len(read_pair(bare).samples) == 2


def test_a_component_that_is_not_found_is_named_in_the_note(bare: Path) -> None:
    for number in (1, 2):
        made = make_masks(bare, Known(cat=[BODY], hair=[HEAD] if number == 2 else []), overwrite=True)
        assert made[0].note == ("" if number == 2 else "hair not found, so not subtracted")


def test_two_images_never_share_a_mask(tmp_path: Path) -> None:
    for folder in ("cat", "hair"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (SIDE, SIDE)).save(tmp_path / folder / "1.png")
    (tmp_path / "masks").mkdir()
    samples = '[[samples]]\nlabel = "{0}"\nimages = "{0}/1.png"\nmasks = "masks"\n'
    (tmp_path / "pair.toml").write_text(samples.format("cat") + samples.format("hair"))
    with pytest.raises(InputError, match="would share the mask"):
        make_masks(tmp_path, Known(cat=[BODY], hair=[HEAD]))
    assert list((tmp_path / "masks").iterdir()) == []
    (tmp_path / "pair.toml").write_text(
        (samples.format("cat") + samples.format("hair")).replace('masks = "masks"\n', "")
    )
    assert len(make_masks(tmp_path, Known(cat=[BODY], hair=[HEAD]))) == 2  # each folder has its own masks
    assert len(read_pair(tmp_path).samples) == 2


def test_a_mask_of_another_kind_of_file_is_replaced_not_doubled(bare: Path) -> None:
    (bare / "masks").mkdir()
    Image.new("L", (SIDE, SIDE), 255).save(bare / "masks" / "0_cat_1.bmp")
    make_masks(bare, Known(cat=[BODY], hair=[HEAD]), overwrite=True)
    assert sorted(p.name for p in (bare / "masks").glob("0_cat*")) == ["0_cat_1.png"]
    nothing = make_masks(bare, Known(hair=[HEAD]), overwrite=True)
    assert nothing[0].note.endswith("the existing mask is kept")
    assert (bare / "masks" / "0_cat_1.png").exists()


def test_listed_masks_are_written_where_they_are_listed(tmp_path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "a.png")
    Image.new("L", (SIDE, SIDE), 255).save(tmp_path / "m.png")
    (tmp_path / "pair.toml").write_text('[[samples]]\nlabel = "cat"\nimages = ["a.png"]\nmasks = ["m.png"]\n')
    make_masks(tmp_path, Known(cat=[BODY]), overwrite=True)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "m.png")) / 255, BODY.mask)


def test_counts_and_boxes_that_fit_nothing_are_refused(bare: Path) -> None:
    with pytest.raises(InputError, match="counts ears: no sample has this label; choose one of cat, hair"):
        make_masks(bare, Known(cat=[BODY], hair=[HEAD]), counts={"ears": 2})
    for box, message in (
        ("0_cat_9.png=1,1,9,9", "matches none of the pair's images"),
        ("0_cat_1.png:long_hair=1,1,9,9", "no sample has this label"),
        ("0_cat_1.png=50,50,60,60", "nothing of a 40 x 40 image is inside"),
    ):
        with pytest.raises(InputError, match=message):
            make_masks(bare, load_segmenter("grabcut", boxes=[box]))
    with pytest.raises(InputError, match="cannot be read"):
        make_masks("x" * 5000, Known())
    assert not (bare / "masks").exists()


def test_a_box_may_name_more_of_a_path(tmp_path: Path) -> None:
    for folder in ("0_cat", "1_hair"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (SIDE, SIDE)).save(tmp_path / folder / "1.png")
    with pytest.raises(InputError, match="give one file, with more of its path"):
        make_masks(tmp_path, load_segmenter("grabcut", boxes=["1.png=1,1,30,30"]))
    images = {tmp_path / f / "1.png": Image.new("RGB", (SIDE, SIDE)) for f in ("0_cat", "1_hair")}
    load_segmenter("grabcut", boxes=["0_cat/1.png=1,1,inf,inf"]).check(images, ["cat", "hair"])


def test_soft_edges_are_kept_on_request(bare: Path) -> None:
    half = Region(0.9, HEAD.box, HEAD.mask * 0.7)
    for soft, brightest in ((False, 255), (True, 178)):
        make_masks(bare, Known(cat=[BODY], hair=[half]), soft=soft, overwrite=True)
        assert np.asarray(Image.open(bare / "masks" / "1_hair_1.png")).max() == brightest


def test_an_unreadable_image_stops_before_anything_is_written(bare: Path) -> None:
    (bare / "1_hair_2.png").write_text("no image")
    with pytest.raises(InputError, match="not a readable image"):
        make_masks(bare, Known(cat=[BODY], hair=[HEAD]))
    assert not (bare / "masks").exists()


def test_grabcut_finds_the_foreground_in_the_box(bare: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 40, (90, 120, 3), np.uint8)
    truth = np.zeros((90, 120), bool)
    truth[30:60, 40:90] = True
    noise[truth] += np.array([180, 30, 20], np.uint8)
    image = Image.fromarray(noise)
    for scale in (1, 10):  # larger than it works at: scaled down and up again
        found = grabcut(
            image.resize((120 * scale, 90 * scale), Image.Resampling.NEAREST),
            tuple(scale * v for v in (35, 25, 95, 65)),
        )  # type: ignore[arg-type]
        wanted = np.kron(truth, np.ones((scale, scale)))
        overlap = (wanted * (found > 0.5)).sum() / np.maximum(wanted, found > 0.5).sum()
        assert overlap > 0.95
    segmenter = load_segmenter("grabcut", boxes=["0_cat_1.png=5,5,35,35", "1_hair_1.png=2,2,30,30"])
    for name in ("0_cat_1", "1_hair_1"):
        pixels = np.full((SIDE, SIDE, 3), 200, np.uint8)
        pixels[10:25, 10:25] = (250, 20, 20)
        Image.fromarray(pixels).save(bare / f"{name}.png")
    assert not [m for m in make_masks(bare, segmenter) if m.missing]
    mask = np.asarray(Image.open(bare / "masks" / "0_cat_1.png"))
    assert mask[12:22, 12:22].min() == 255
    assert mask[28:].max() == 0


def test_grabcut_ignores_pixels_far_from_the_box() -> None:
    """A roof in the sky, and everything far away in the roof's colour, as the lower roofs of a pagoda."""
    roof, sky = (200, 100, 30), (150, 190, 230)
    pixels, truth = np.full((200, 200, 3), roof, np.int64), np.zeros((200, 200), bool)
    pixels[48:132, 48:142] = sky
    for y in range(64, 116):
        half = 2 + (y - 64) * 30 // 52
        truth[y, 95 - half : 95 + half] = True
    pixels[truth] = roof
    noisy = (pixels + np.random.default_rng(0).integers(-20, 20, pixels.shape)).clip(0, 255).astype(np.uint8)
    found = grabcut(Image.fromarray(noisy), (60, 60, 130, 120)) > 0.5
    assert (truth & found).sum() / (truth | found).sum() > 0.9


def test_a_box_may_end_beyond_the_image() -> None:
    pixels = np.random.default_rng(0).integers(0, 40, (40, 40, 3), np.uint8)
    pixels[20:, 10:30] += np.array([180, 30, 20], np.uint8)
    found = grabcut(Image.fromarray(pixels), (8, 15, 32, float("inf"))) > 0.5
    assert found[25:38, 12:28].all()
    assert not found[:, :8].any()


def test_boxes_and_models_that_do_not_fit_are_refused() -> None:
    assert read_box("a b.jpg=1,2,30,40") == (("a b.jpg", ""), (1, 2, 30, 40))
    assert read_box("a.jpg:long hair=1,2,30,40")[0] == ("a.jpg", "long hair")
    for text in ("a.jpg", "a.jpg=1,2,3", "a.jpg=9,2,3,4", "=1,2,3,4", "a.jpg=-1,2,3,4", "a.jpg=a,b,c,d"):
        with pytest.raises(InputError, match="write FILE=left,top,right,bottom"):
            read_box(text)
    with pytest.raises(InputError, match="give boxes as FILE=left,top,right,bottom"):
        load_segmenter("grabcut")
    with pytest.raises(InputError, match="clipseg takes words, not boxes; choose model grabcut"):
        load_segmenter("clipseg", boxes=["a.jpg=1,2,3,4"])
    with pytest.raises(InputError, match="choose one of grabcut, clipseg, dino"):
        load_segmenter("sam9")
    with pytest.raises(InputError, match="nothing of a 40 x 40 image is inside"):
        grabcut(Image.new("RGB", (SIDE, SIDE)), (50, 50, 60, 60))
