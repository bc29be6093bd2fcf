"""A study from a bench: balanced, complete, and blind."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.study.bench import candidates
from magictailor.study.design import Answering, read_study
from magictailor.study.make import MakeOptions, make_study, stratified
from magictailor.study.page import page_data, render_page, write_page
from studies import METHODS, PAIRS, made_up_bench, made_up_study
from tiny import Call


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up_bench(tmp_path_factory.mktemp("bench"))


def test_groups_are_spread_over_pairs_and_prompts(bench: Path) -> None:
    found = candidates(bench)
    assert len(found) == 12
    for count in (1, 5, 6, 12):
        chosen = stratified(found, count, seed=3)
        assert len({(c.pair.name, c.prompt) for c in chosen}) == count
        pairs = Counter(c.pair.name for c in chosen)
        assert max(pairs.values()) - min(pairs.get(name, 0) for name in PAIRS) <= 1
        prompts = Counter(c.prompt for c in chosen)
        assert max(prompts.values()) - min(prompts.get(p, 0) for p in {c.prompt for c in found}) <= 1


def test_the_seed_chooses_the_groups(bench: Path) -> None:
    found = candidates(bench)
    chosen = [[(c.pair.name, c.prompt) for c in stratified(found, 5, seed)] for seed in (0, 0, 1, 2)]
    assert chosen[0] == chosen[1]
    assert len({tuple(c) for c in chosen}) > 1


def test_pictures_are_copied_and_the_study_stands_alone(tmp_path: Path) -> None:
    made = made_up_study(tmp_path)
    assert read_study(tmp_path / "study") == made
    assert Counter(group.kind for group in made.groups) == {"study": 6, "check": 2, "practice": 1}
    group = made.counted[0]
    assert group.prompt.startswith("person with hair, ")  # no pseudo-words
    source = next(p for p in group.pictures if p.method == "clic")
    with Image.open(tmp_path / "study" / "pictures" / source.file) as copied:
        pixels = np.asarray(copied)
    originals = [
        np.asarray(Image.open(path)) for path in (tmp_path / "bench" / "images" / group.pair / "clic").glob("*.png")
    ]
    assert any(np.array_equal(pixels, original) for original in originals)


def test_nothing_that_raters_get_names_a_method_or_a_check(tmp_path: Path) -> None:
    made = made_up_study(tmp_path)
    write_page(made, tmp_path / "study", tmp_path / "site")
    served = render_page(made, static="/static/", pictures="/pictures/", session={"mode": "server", "token": ""})
    sent = [served.encode(), *(path.read_bytes() for path in (tmp_path / "site").rglob("*") if path.is_file())]
    for method in (*METHODS, "truth", "broken", "intact"):
        assert not any(re.search(rb"\b%s\b" % method.encode(), content) for content in sent), method
    page = page_data(made)
    assert {frozenset(group) for group in page["groups"]} == {
        frozenset({"name", "practice", "prompt", "references", "pictures"})
    }
    assert all(group["pictures"] == sorted(group["pictures"]) for group in page["groups"])


def test_a_pictures_file_says_nothing_but_its_pixels(tmp_path: Path) -> None:
    made = made_up_study(tmp_path)
    paths = sorted((tmp_path / "study" / "pictures").iterdir())
    assert len({path.stat().st_mtime_ns for path in paths}) == 1
    for path in paths:
        assert re.fullmatch(r"[0-9a-f]{16}\.png", path.name)
        assert set(re.findall(rb"(IHDR|tEXt|iTXt|zTXt|eXIf|tIME|pHYs|gAMA|IDAT|IEND)", path.read_bytes())) <= {
            b"IHDR",
            b"IDAT",
            b"IEND",
        }
    for group in made.groups:
        assert len({Image.open(tmp_path / "study" / "pictures" / file).size for file in group.files}) == 1


def test_names_do_not_follow_methods(tmp_path: Path) -> None:
    """Over two studies of one bench, neither names nor their order say the method."""
    orders, names = [], []
    for number in range(2):
        made = made_up_study(tmp_path / str(number), groups=12, practice=0)
        orders += [tuple(p.method for p in sorted(group.pictures, key=lambda p: p.file)) for group in made.counted]
        names.append({file for group in made.groups for file in group.files})
    assert len(set(orders)) >= 4  # of 6 possible
    assert not names[0] & names[1]


def test_a_check_shows_the_truth_and_broken_pictures_of_it(tmp_path: Path) -> None:
    made = made_up_study(tmp_path)
    for group in made.checks:
        images = {p.method: np.asarray(Image.open(tmp_path / "study" / "pictures" / p.file)) for p in group.pictures}
        truths = [
            np.asarray(Image.open(p)) for p in (tmp_path / "bench" / "pairs" / group.pair / "truth").glob("*.png")
        ]
        assert any(np.array_equal(images["truth"], truth) for truth in truths)
        assert group.answer == next(p.file for p in group.pictures if p.method == "truth")
        assert len(images) == len(METHODS)
        for name, image in images.items():
            if name != "truth":
                assert np.abs(image.astype(float) - images["truth"]).mean() > 20
                assert np.array_equal(
                    np.sort(image.reshape(-1)), np.sort(images["truth"].reshape(-1))
                )  # the same tiles


def test_pairs_ask_for_checks_of_two(tmp_path: Path) -> None:
    made = made_up_study(tmp_path, answering=Answering(choose="pair"))
    assert [len(group.pictures) for group in made.checks] == [2, 2]
    assert made.shown == 2


def test_finer_questions(tmp_path: Path) -> None:
    made = made_up_study(tmp_path, questions="fine")
    assert [question.name for question in made.questions] == ["text", "concept", "component", "quality"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"groups": 12},
            "groups 12: with 1 for practice, 13 are needed, and the bench has 12 complete groups; choose 11 or fewer, or",
        ),
        ({"groups": 13, "practice": 0}, "groups 13: the bench has 12 complete groups; choose 12 or fewer"),
        ({"groups": 5, "practice": 10}, "with 10 for practice, 15 are needed, .*; choose 2 or fewer, or less practice"),
        ({"groups": 0}, "groups 0: out of range"),
        ({"methods": ("nosuch",)}, "methods nosuch: not in this bench; choose from"),
        ({"methods": ("clic",)}, "a study compares two or more"),
        ({"questions": "many"}, "questions many: unknown"),
        ({"size": 1}, "size 1: out of range"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(
    bench: Path, tmp_path: Path, options: dict, line: str
) -> None:
    with pytest.raises(InputError, match=line):
        make_study(bench, tmp_path / "study", MakeOptions(**{"groups": 4, **options}))
    assert not any(tmp_path.iterdir())


def test_what_a_refusal_proposes_works(bench: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        make_study(bench, tmp_path / "study", MakeOptions(groups=20))
    proposed = re.search(r"choose (\d+) or fewer", caught.value.fix)
    assert proposed is not None
    assert len(make_study(bench, tmp_path / "study", MakeOptions(groups=int(proposed[1]))).counted) == 11


def test_only_complete_groups_are_candidates(tmp_path: Path) -> None:
    bench = made_up_bench(tmp_path / "bench")
    next((bench / "images" / "ada" / "clic").iterdir()).unlink()
    assert len(candidates(bench)) == 11
    assert len(candidates(bench, ["magictailor", "dreambooth"])) == 12


def test_photos_of_other_pairs_are_found_by_the_spec(tmp_path: Path) -> None:
    bench = made_up_bench(tmp_path / "bench", pairs=("ada",))
    (bench / "pairs" / "ada").rename(tmp_path / "ada")
    with pytest.raises(InputError, match="ada: its photos are not in the bench"):
        candidates(bench)
    (tmp_path / "spec.toml").write_text('pairs = ["ada"]\n')
    assert {c.truth for c in candidates(bench, spec=tmp_path / "spec.toml")} == {None}


def test_the_command_makes_a_study(bench: Path, tmp_path: Path, call: Call) -> None:
    result = call("study", "make", bench, "--output", tmp_path / "s", "--groups", 4, "--invite", 3, "--tie")
    assert result.code == 0, result.err
    assert "4 groups of 3 methods" in result.out
    made = read_study(tmp_path / "s")
    assert (made.entry.mode, made.entry.invitations, made.answering.tie) == ("invited", 3, True)
    again = call("study", "make", bench, "--output", tmp_path / "s", "--groups", 4)
    assert (again.code, "exists and is not empty" in again.err) == (2, True)
    assert "BENCH" in call("study", "make", tmp_path, "--output", tmp_path / "t").err
