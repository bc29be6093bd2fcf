"""Three layouts give the same pair; each mistake gives one line with its fix."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.data import Pair, read_pair

SIZE = (24, 20)
WHITE = (0, 0, *SIZE)
LEFT = (0, 0, 12, 20)


def image(path: Path, color: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, color).save(path, "PNG")  # whatever the extension says
    return path


def mask(path: Path, box: tuple[int, int, int, int] = LEFT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = Image.new("L", SIZE)
    canvas.paste(255, box)
    canvas.save(path)


def named(folder: Path, *files: str) -> Path:
    """Layout 1 with these images, each with its mask."""
    for file in files:
        mask(folder / "masks" / f"{image(folder / file).stem}.png")
    return folder


def summary(pair: Pair) -> list[tuple[str, str, list[str]]]:
    return [(s.label, s.word, [r.path.name for r in s.references]) for s in pair.samples]


def refused(path: Path, *, words: list[str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_pair(path, words=words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_reference_layout(tmp_path: Path) -> None:
    folder = named(tmp_path / "tower_a+roof_b", "0_tower_a0.jpg", "0_tower_a10.jpg", "0_tower_a2.JPG", "1_roof_b0.jpg")
    mask(folder / "masks" / "others" / "0_tower_a0.png", WHITE)
    for name in (".DS_Store", "Thumbs.db", "0_tower_a0.txt", "._1_roof_b0.jpg"):
        (folder / name).write_text("not an image")
    pair = read_pair(folder)
    assert pair.name == "tower_a+roof_b"
    assert summary(pair) == [
        ("tower", "<tower>", ["0_tower_a0.jpg", "0_tower_a2.JPG", "0_tower_a10.jpg"]),
        ("roof", "<roof>", ["1_roof_b0.jpg"]),
    ]
    assert (pair.concept, pair.components) == (pair.samples[0], pair.samples[1:])
    assert pair.words == ("<tower>", "<roof>")
    assert pair.sample("<roof>") is pair.samples[1]
    reference = pair.concept.references[0]
    assert (reference.image.mode, reference.mask.mode, reference.image.size) == ("RGB", "L", SIZE)
    assert reference.coverage == pytest.approx(0.5)
    with pytest.raises(InputError, match="word <hat>: not a pseudo-word of this pair; choose <tower> or <roof>"):
        pair.sample("<hat>")


def test_spellings_of_one_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = named(tmp_path / "red_tower_a+roof_b", "0_red_tower_a0.jpg", "1_roof_b0.jpg")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    for path in (f"{folder}/", ".", "../link", folder):
        assert [sample.label for sample in read_pair(path).samples] == ["red tower", "roof"]
    assert read_pair(".").name == folder.name


@pytest.mark.parametrize(
    ("folder", "files", "labels"),
    [
        ("any", ["0_long_hair_a0.jpg", "0_long_hair_a1.jpg"], ["long hair"]),
        ("any", ["0_long_hair.jpg"], ["long hair"]),
        ("any", ["0_tower_12.jpg", "1_roof3.jpg", "2_door_b.jpg"], ["tower", "roof", "door"]),
        ("any", ["0_tower_front.jpg", "0_tower_back.jpg"], ["tower"]),
        ("cat_ada+hat_eve", ["0_cat_ada1.jpg", "1_hat_eve1.jpg"], ["cat", "hat"]),  # the folder knows the id
        ("a_b+c_d", ["0_cat_a1.jpg", "1_hat_a1.jpg"], ["cat", "hat"]),  # the folder's name does not fit
        ("cat_a+hat_a", ["0_cat_a1.jpg", "0_cat_a2.jpg"], ["cat"]),  # the concept alone
    ],
)
def test_labels(tmp_path: Path, folder: str, files: list[str], labels: list[str]) -> None:
    assert [sample.label for sample in read_pair(named(tmp_path / folder, *files)).samples] == labels


def test_words(tmp_path: Path) -> None:
    folder = named(tmp_path / "p", "0_Old_Crème_a1.jpg", "1_hair_a1.jpg")
    assert read_pair(folder).words == ("<old-creme>", "<hair>")
    assert read_pair(folder, words=["<Ada>", "<ada-2>"]).words == ("<ada>", "<ada-2>")
    assert "words <a>: 1 for 2 samples; give one for each of Old Crème, hair" in refused(folder, words=["<a>"])
    assert "'ada': not a pseudo-word (of \"Old Crème\"); write it like <ada-2>" in refused(folder, words=["ada", "<b>"])
    assert "<a>: samples 0 and 1 share this word; give each its own" in refused(folder, words=["<a>", "<A>"])
    same = named(tmp_path / "q", "0_hair_a1.jpg", "1_hair_b1.jpg")
    assert "<hair>: samples 0 and 1 share this word" in refused(same)
    assert read_pair(same, words=["<a>", "<b>"]).words == ("<a>", "<b>")


def test_folder_layout(tmp_path: Path) -> None:
    mask(tmp_path / "0_person" / "masks" / f"{image(tmp_path / '0_person' / 'x.jpg').stem}.png")
    image(tmp_path / "1_long_hair" / "y.jpg")
    mask(tmp_path / "1_long_hair" / "y-masklabel.png", (0, 0, 6, 20))
    cut = Image.new("RGBA", SIZE, (9, 9, 9, 255))
    cut.putalpha(Image.new("L", SIZE).point(lambda _: 200))
    cut.save(tmp_path / "1_long_hair" / "z.png")
    pair = read_pair(tmp_path)
    assert summary(pair) == [
        ("person", "<person>", ["x.jpg"]),
        ("long hair", "<long-hair>", ["y.jpg", "z.png"]),
    ]
    coverages = [round(r.coverage, 2) for s in pair.samples for r in s.references]
    assert coverages == [0.5, 0.25, round(200 / 255, 2)]


def test_component_masks_are_taken_from_the_concept(tmp_path: Path) -> None:
    folder = named(tmp_path / "p", "0_person_a1.jpg", "1_hair_a1.jpg")
    mask(folder / "masks" / "0_person_a1.png", WHITE)
    mask(folder / "masks" / "0_person_a1.hair.png", LEFT)
    kept = read_pair(folder).concept.references[0].mask
    assert [kept.getpixel((x, 5)) for x in (11, 12)] == [0, 255]


def toml(folder: Path, text: str, name: str = "pair.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    return folder / name


def sample(**keys: str) -> str:
    return "[[samples]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())


def test_toml_layout(tmp_path: Path) -> None:
    for name in ("p2.jpg", "p10.JPG"):
        mask(tmp_path / "m" / f"{image(tmp_path / 'ada' / name).stem}.png", WHITE)
    mask(tmp_path / "h" / "p2.png", LEFT)
    mask(image(tmp_path / "wig[1].jpg").with_name("any.png"))
    person = sample(label='"person"', word='"<Ada>"', images='["ada/*.jpg"]', masks='"m"', exclude='"h"')
    file = toml(tmp_path, person + sample(label='"long_hair"', images='"wig[1].jpg"', masks='["any.png"]'))
    for path in (file, tmp_path):
        pair = read_pair(path)
        assert pair.name == tmp_path.name
        assert summary(pair) == [
            ("person", "<ada>", ["p2.jpg", "p10.JPG"]),
            ("long hair", "<long-hair>", ["wig[1].jpg"]),
        ]
        assert [round(r.coverage, 2) for r in pair.concept.references] == [0.5, 1.0]
    other = toml(tmp_path / "elsewhere", 'name = "mine"\n' + sample(label='"x"', images='["../ada/*"]', masks='"../m"'))
    assert read_pair(other).name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels = [", "pair.toml: not valid TOML at end of document"),
        ("", "describes no samples; begin each with a line [[samples]]"),
        ("sampels = 1", "unknown key sampels; write samples"),
        ("name = 3\n" + sample(label='"x"', images='"a.jpg"'), 'name must be text; write name = "..."'),
        (sample(label='"x"', image='"a.jpg"'), "sample 0: unknown key image; write images"),
        (sample(images='"a.jpg"'), 'sample 0: incomplete; add a line like label = "person"'),
        (sample(label='"x"'), 'add a line like images = ["person/*.jpg"]'),
        (sample(label='"x"', images="[1]"), "images must be text or a list of texts"),
        (sample(label='"x"', images='"b*.jpg"'), "b*.jpg: no such image; correct the path; it starts at the TOML"),
        (sample(label='"x"', images='"a.jpg"', masks='"none"'), 'none is not a folder; write masks = "folder"'),
        (sample(label='"x"', images='"a.jpg"', masks='["none.png"]'), "none.png is not a file"),
        (sample(label='"x"', images='"*.jpg"', masks='["a.jpg", "a.jpg"]'), "lists 2 masks for 1 images"),
        (sample(label='"x"', images='"a.jpg"', exclude='"m"'), "m: excludes nothing; name its masks like"),
        (sample(label='"x"', word='"x"', images='"a.jpg"'), "'x': not a pseudo-word (of \"x\"); write it like <ada-2>"),
    ],
)
def test_mistakes_in_a_toml(tmp_path: Path, text: str, message: str) -> None:
    image(tmp_path / "a.jpg")
    (tmp_path / "m").mkdir()
    assert message in refused(toml(tmp_path, text))


def hollow(folder: Path) -> Path:
    mask(folder / "0_person" / "masks" / f"{image(folder / '0_person' / 'a.jpg').stem}.png")
    (folder / "1_hair").mkdir()
    return folder


def unnumbered(folder: Path) -> Path:
    image(folder / "person" / "a.jpg")
    image(folder / "hair" / "a.jpg")
    return folder


def doubled(folder: Path) -> Path:
    image(folder / "0_person" / "a.jpg")
    image(folder / "00_hair" / "a.jpg")
    return folder


def mixed(folder: Path) -> Path:
    image(folder / "1_hair" / "a.jpg")
    return named(folder, "0_person_a1.jpg")


def two_tomls(folder: Path) -> Path:
    return toml(folder, "", "a.toml").parent if toml(folder, "", "b.toml") else folder


def empty(folder: Path) -> Path:
    (folder / "masks").mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none", "does not exist; check the path; expected 0_person_a1.jpg"),
        (
            lambda folder: image(folder / "a.jpg"),
            ": neither a folder nor a TOML file; expected 0_person_a1.jpg",
        ),
        (empty, "holds no images; expected 0_person_a1.jpg"),
        (hollow, "1_hair: holds no images; add some, or remove the folder"),
        (unnumbered, "from 0 (the concept), like 0_person/ and 1_hair/, or write a pair.toml"),
        (doubled, "00_hair: 0_person has the same number; give each sample its own"),
        (mixed, "has 0_person_a1.jpg and 1_hair/; move all images into folders"),
        (two_tomls, "holds 2 TOML files; name the one to use pair.toml"),
        (
            lambda folder: named(folder, "IMG_1.jpg"),
            "IMG_1.jpg: no sample number in its name; number them from 0 (the concept), like 0_person_1.jpg",
        ),
        (
            lambda folder: named(folder, "1_hair_a1.jpg"),
            "has 1_hair_a1.jpg; number samples 0 (concept), 1, ...",
        ),
        (
            lambda folder: named(folder, "0_12.jpg"),
            "0_12.jpg: no label in its name; name it like 0_person_1.jpg",
        ),
        (
            lambda folder: named(folder, "0_hat_a1.jpg", "0_hat_a1.png"),
            "masks both 0_hat_a1.jpg and 0_hat_a1.png",
        ),
        (lambda folder: image(folder / "0_hat_a1.jpg").parent, "add " + "{}/masks/0_hat_a1.png"),
    ],
)
def test_mistakes_in_a_folder(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    folder = tmp_path / "p"
    assert message.format(folder) in refused(make(folder))


def test_labels_in_conflict_name_both_files(tmp_path: Path) -> None:
    folder = named(tmp_path / "tower_a+roof_a", "0_tower_a0.jpg", "0_bridge_a1.jpg", "1_roof_a0.jpg")
    message = refused(folder)
    assert "0_tower_a0.jpg" in message
    assert "0_bridge_a1.jpg" in message
    assert "different numbers or the same label" in message


def test_a_broken_image_or_mask_is_named(tmp_path: Path) -> None:
    folder = named(tmp_path / "p", "0_hat_a1.jpg")
    (folder / "masks" / "0_hat_a1.png").write_text("no image")
    assert "masks/0_hat_a1.png: not a readable image" in refused(folder)
    (folder / "0_hat_a2.png").write_text("no image")
    (folder / "0_hat_a1.jpg").unlink()
    assert "0_hat_a2.png: not a readable image" in refused(folder)


def test_a_folder_whose_name_begins_like_a_label_does_not_give_it(tmp_path: Path) -> None:
    assert summary(read_pair(named(tmp_path / "p", "0_person_a1.png")))[0][:2] == ("person", "<person>")
    both = read_pair(named(tmp_path / "p+h", "0_person_a1.png", "1_hair_a1.png"))
    assert [sample.label for sample in both.samples] == ["person", "hair"]


def test_a_link_to_nothing_is_not_skipped(tmp_path: Path) -> None:
    folder = named(tmp_path / "pair", "0_person_1.png")
    (folder / "1_hair_1.png").symlink_to(tmp_path / "nowhere")
    assert "1_hair_1.png: cannot be opened" in refused(folder)


def test_odd_names_are_no_traceback(tmp_path: Path) -> None:
    folder = named(tmp_path / "pair", "0_person_1.png")
    (folder / "1²2.txt").write_text("a note")
    assert read_pair(folder).words == ("<person>",)
    for path in (Path("~nosuchuser/x"), tmp_path / ("n" * 300)):
        assert "cannot be read" in refused(path)
    assert "pair.toml" in refused(named(tmp_path / "other", "0_髪_1.png"))


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 5000, "x = " + "9" * 5001, '[[samples]]\nlabel = "__"\nword = "<x>"\n']
)
def test_hostile_toml_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "pair.toml").write_text(text)
    refused(tmp_path)
