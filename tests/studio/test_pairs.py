"""Pairs, photos and masks that people make in the studio are ordinary pair folders."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.data import read_pair
from magictailor.segmentation.points import Click, grabcut_points, load_point_model
from magictailor.studio.adoption import adopt_from_world
from magictailor.studio.masks import mask_path, save_mask
from magictailor.studio.pairs import PairStore
from magictailor.studio.studio import Studio
from magictailor.studio.uploads import stem_of
from magictailor.studio.workspace import NotThere, Workspace


def png(size: tuple[int, int] = (64, 48), color: object = (200, 30, 30), mode: str = "RGB", **save: object) -> bytes:
    content = io.BytesIO()
    Image.new(mode, size, color).save(content, **{"format": "PNG", **save})  # type: ignore[arg-type]
    return content.getvalue()


def disc(size: tuple[int, int], radius: int) -> bytes:
    rows, columns = np.mgrid[: size[1], : size[0]]
    inside = (columns - size[0] / 2) ** 2 + (rows - size[1] / 2) ** 2 < radius**2
    content = io.BytesIO()
    Image.fromarray((inside * 255).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def test_a_pair_made_here_is_read_as_any_other(studio: Studio) -> None:
    pairs = studio.pairs
    id = pairs.create("Ada & the salon", ["person", "long hair"])
    assert studio.pair(id)["problems"] == ["person: add at least one photo", "long hair: add at least one photo"]
    first = pairs.add(id, 0, "C:\\fotos\\Ada 1.PNG", png())
    second = pairs.add(id, 1, "salon.webp", png(format="WEBP"))
    assert (first, second) == ("ada-1.png", "salon.webp")
    save_mask(pairs, id, first, disc((64, 48), 20))
    save_mask(pairs, id, second, disc((64, 48), 15))
    save_mask(pairs, id, first, disc((64, 48), 8), without="long hair")
    assert studio.pair(id)["problems"] == []
    read = read_pair(pairs.folder(id))
    assert read.words == ("<person>", "<long-hair>")
    share = np.asarray(read.concept.references[0].mask).mean() / 255
    assert share == pytest.approx(studio.pair(id)["samples"][0]["photos"][0]["coverage"], abs=1e-3)
    assert share == pytest.approx((20**2 - 8**2) * np.pi / (64 * 48), rel=0.05)  # concept minus component
    pairs.relabel(id, 1, "curls", "<locks-2>")  # the mask that is taken away follows
    again = read_pair(pairs.folder(id))
    assert again.words == ("<person>", "<locks-2>")
    assert np.asarray(again.concept.references[0].mask).mean() / 255 == pytest.approx(share)


def test_photos_are_ordered_removed_and_brought_back(studio: Studio) -> None:
    pairs = studio.pairs
    id = pairs.create("x", ["cat"])
    names = [pairs.add(id, 0, "a.png", png(color=(n, n, n))) for n in range(3)]
    assert names == ["a.png", "a-2.png", "a-3.png"]
    save_mask(pairs, id, "a-2.png", disc((64, 48), 10))
    pairs.arrange(id, [["a-3.png", "a.png", "a-2.png"]])
    pairs.remove(id, "a-2.png")
    assert pairs.read(id).samples[0].photos == ("a-3.png", "a.png")
    pairs.restore(id, "a-2.png")
    assert pairs.read(id).samples[0].photos == ("a-3.png", "a.png", "a-2.png")
    assert mask_path(pairs.folder(id), "a-2.png").exists()
    swapped = pairs.add(id, 0, "b.png", png(), instead="a-3.png")
    assert pairs.read(id).samples[0].photos == (swapped, "a.png", "a-2.png")
    with pytest.raises(InputError, match="in the meantime"):
        pairs.arrange(id, [["a.png"]])
    pairs.delete(id)
    assert pairs.ids() == []
    pairs.undelete(id)
    assert pairs.ids() == [id]


def test_rotated_and_transparent_photos_are_as_they_are_seen(studio: Studio) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    id = studio.pairs.create("x", ["cat"])
    studio.pairs.add(id, 0, "turned.jpg", png((640, 400), format="JPEG", exif=exif))
    studio.pairs.add(id, 0, "clear.png", png((64, 40), (9, 9, 9, 0), "RGBA"))
    turned, clear = studio.pair(id)["samples"][0]["photos"]
    assert (turned["width"], turned["height"], turned["coverage"]) == (400, 640, None)
    assert "upright" in turned["note"]
    assert "smaller than the 128 pixels" in clear["note"]
    assert clear["coverage"] == 0  # its alpha is its mask


def test_bombs_and_other_files_are_refused_in_a_process_of_their_own(studio: Studio) -> None:
    id = studio.pairs.create("x", ["cat"])
    bomb = png((20_000, 20_000), 0, "1")
    for content in (bomb, png()[:60], b"\x89PNG\r\n\x1a\n" + b"x" * 200, b"<svg/>", b"GIF89a", png((8, 8))):
        with pytest.raises(InputError):
            studio.pairs.add(id, 0, "x.png", content)
    assert studio.pairs.read(id).samples[0].photos == ()
    with pytest.raises(InputError, match="make the mask the same size as the photo"):
        save_mask(studio.pairs, id, studio.pairs.add(id, 0, "a.png", png()), png((10_0, 50)))


def test_a_mask_that_is_too_small_is_warned_about(studio: Studio) -> None:
    id = studio.pairs.create("x", ["cat"])
    photo = studio.pairs.add(id, 0, "a.png", png((1600, 1200)))
    save_mask(studio.pairs, id, photo, disc((1600, 1200), 6))
    assert "is empty at the model's" in studio.pair(id)["problems"][0]
    save_mask(studio.pairs, id, photo, disc((1600, 1200), 300))
    assert studio.pair(id)["problems"] == []


def test_a_folder_that_names_files_elsewhere_is_refused(studio: Studio, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    for path in (str(secret), "../../../secret.png"):
        folder = studio.new_folder()
        studio.stage(folder, "p/pair.toml", f'[[samples]]\nlabel = "cat"\nimages = ["{path}"]\n'.encode())
        with pytest.raises(InputError, match="lies outside"):
            studio.adopt_folder(folder, "p")
    folder = studio.new_folder()
    for path in ("../x.png", "/etc/x.png", "a/../../x.png", "", "a/b/c/d/e.png"):
        if path == "/etc/x.png":
            continue  # read as a path inside
        with pytest.raises(InputError):
            studio.stage(folder, path, png())
    assert studio.pairs.ids() == []


def test_an_uploaded_folder_keeps_masks_and_labels(studio: Studio) -> None:
    folder = studio.new_folder()
    for name in ("0_person_a1", "1_hair_a1"):
        studio.stage(folder, f"mine/{name}.png", png())
        studio.stage(folder, f"mine/masks/{name}.png", disc((64, 48), 15))
    studio.stage(folder, "mine/masks/0_person_a1.hair.png", disc((64, 48), 5))
    id = studio.adopt_folder(folder, "mine")
    found = studio.pair(id)
    assert [s["label"] for s in found["samples"]] == ["person", "hair"]
    assert found["samples"][0]["photos"][0]["without"] == ["hair"]
    assert found["problems"] == []


def test_links_and_names_that_lead_out_are_not_there(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "root")
    (tmp_path / "secret").mkdir()
    (workspace.pairs / "link").symlink_to(tmp_path / "secret")
    for names in (
        ("pairs", "link"),
        ("..", "secret"),
        ("pairs", "../jobs"),
        (".hidden",),
        ("",),
        ("a\x00b",),
        ("x" * 200,),
    ):
        with pytest.raises(NotThere):
            workspace.find(*names)
    assert "link" not in PairStore(workspace).ids()


def test_labels_are_words(studio: Studio) -> None:
    for label in ("", "<script>", "a/b", "../x", "x" * 50, "a\nb\x00", "\u4e00"):
        with pytest.raises(InputError):
            studio.pairs.create("x", [label])
    with pytest.raises(InputError, match="two samples"):
        studio.pairs.create("x", ["long hair", "long-hair"])
    assert stem_of("../../etc/passwd") == "passwd"
    assert stem_of("<img src=x>.png") == "img-src-x"


def test_clicks_cut_out_what_they_are_on() -> None:
    pixels = np.full((120, 160, 3), 40, np.uint8)
    pixels[30:90, 40:110] = (220, 80, 60)
    mask = grabcut_points(Image.fromarray(pixels), [Click(70, 60), Click(10, 10, False)]) > 0.5
    truth = np.zeros((120, 160), bool)
    truth[30:90, 40:110] = True
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95
    with pytest.raises(InputError, match="outside"):
        grabcut_points(Image.fromarray(pixels), [Click(500, 60)])
    with pytest.raises(InputError, match="takes no clicks"):
        load_point_model("clipseg")


def test_the_judge_follows_clicks_on_its_own_pictures(studio: Studio) -> None:
    id = adopt_from_world(studio.pairs, 100_000_060)
    folder = studio.pairs.folder(id)
    photo = Image.open(folder / "photos" / "1-hat-a0.png").convert("RGB")
    truth = np.asarray(Image.open(folder / "masks" / "1-hat-a0.png").convert("L")) > 127
    rows, columns = np.nonzero(truth)
    middle = Click(float(np.median(columns)), float(np.median(rows)))
    mask = load_point_model("embedded")(photo, [middle]) > 0.5
    assert (mask & truth).sum() / (mask | truth).sum() > 0.7
