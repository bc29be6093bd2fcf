"""Answers in files, exports, and the table's formats and commands. All raters here are simulated."""

import csv
import io
import json
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.study.adding import add_answers
from magictailor.study.analysis import analyse
from magictailor.study.design import Answering, Entry, Study
from magictailor.study.export import DICTIONARY, answers_tree, export_for_tool
from magictailor.study.paper import SHARES, published
from magictailor.study.raters import code_of, study_secret
from magictailor.study.store import Store
from magictailor.study.table import FORMATS
from studies import METHODS, made_up_study, simulated_answers, store_answers
from tiny import Call


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def study(home: Path) -> Study:
    return made_up_study(home, groups=5, entry=Entry(mode="crowd", max_raters=100))


@pytest.fixture
def store(study: Study, tmp_path: Path) -> Store:
    return Store(study, tmp_path)


def answers_file(study: Study, path: Path, /, **changes: Any) -> Path:
    """As the page saves it, of a simulated rater."""
    answers = simulated_answers(study, 1, "clic")
    rows = [{k: v for k, v in asdict(a).items() if k != "rater"} for a in answers]
    tree = {
        "format": "study answers",
        "version": 1,
        "study": study.order_key,
        "rater": answers[0].rater,
        "consented": "2026-01-01T00:00:00Z",
        "answers": rows,
    }
    path.write_text(json.dumps({**tree, **changes}))
    return path


def test_a_file_counts_once_and_a_newer_one_adds_what_is_new(study: Study, store: Store, tmp_path: Path) -> None:
    path = answers_file(study, tmp_path / "a.json")
    (first,), (again,) = add_answers(study, store, [path]), add_answers(study, store, [path])
    assert (first.new, first.known, again.new) == (len(study.groups) * 3, 0, 0)
    tree = json.loads(path.read_text())
    answer = next(a for a in tree["answers"] if study.by_name[a["group"]].kind == "study")
    other = next(f for f in study.by_name[answer["group"]].files if f != answer["choice"])
    answer |= {"choice": other, "revision": 2}
    path.write_text(json.dumps(tree))
    (newer,) = add_answers(study, store, [path])
    assert newer.new == 1
    assert len(store.answers()) == first.new
    assert {a.choice for a in store.answers() if a.revision == 2} == {other}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"study": "0" * 16}, "holds answers to another study"),
        ({"rater": "../../x"}, "not a study's answers .rater is not as the page writes it"),
        ({"version": 2}, "not a study's answers .version 2 is unknown"),
        ({"format": "run"}, "not a study's answers .another kind of JSON file"),
        ({"consented": "yesterday"}, "not a study's answers .consented is not as the page writes it"),
        ({"more": 1}, "not a study's answers .more is nothing that the page writes"),
        ({"answers": [{"group": "group-01", "question": "text", "choice": "0000000000000000.png", "revision": 1, "seconds": 1.0, "answered": "2026-01-01T00:00:00Z"}]}, "cannot have answered"),
        ({"answers": [{"group": "group-01", "question": "text", "choice": "x", "revision": 0, "seconds": 1.0, "answered": "2026-01-01T00:00:00Z"}]}, r"answers\.0\.revision is not as the page writes it"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_right_changes_nothing(
    study: Study, store: Store, tmp_path: Path, changes: dict, line: str
) -> None:
    good = answers_file(study, tmp_path / "good.json")
    bad = answers_file(study, tmp_path / "bad.json", **changes)
    with pytest.raises(InputError, match=line):
        add_answers(study, store, [good, bad])
    assert store.answers() == []
    assert store.raters() == {}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "it is not JSON"),
        ("[1]", "another kind of JSON file"),
        ("{}", "another kind of JSON file"),
        ('{"format": "study answers"}', "version is missing"),
    ],
)
def test_another_file_is_described_in_words(home: Path, tmp_path: Path, call: Call, text: str, line: str) -> None:
    (tmp_path / "a.json").write_text(text)
    result = call("study", "add", home / "study", tmp_path / "a.json")
    assert (result.code, f"a.json: not a study's answers ({line}); ask the" in result.err) == (2, True), result.err
    assert not (home / "study" / "answers.sqlite").exists()


def test_the_same_answer_twice_in_a_file_is_refused(study: Study, store: Store, tmp_path: Path) -> None:
    path = answers_file(study, tmp_path / "a.json")
    tree = json.loads(path.read_text())
    tree["answers"].append(tree["answers"][0])
    path.write_text(json.dumps(tree))
    with pytest.raises(InputError, match="cannot have answered"):
        add_answers(study, store, [path])


def test_a_file_cannot_speak_for_a_rater_of_the_server(study: Study, store: Store, tmp_path: Path) -> None:
    path = answers_file(study, tmp_path / "a.json")
    rater = json.loads(path.read_text())["rater"]
    with store.writing() as connection:
        store.add_rater(connection, rater, 10)
    with pytest.raises(InputError, match="answers on the server"):
        add_answers(study, store, [path])
    assert store.answers() == []


def test_the_json_has_every_answer_and_explains_every_field(study: Study, store: Store, home: Path) -> None:
    answers = simulated_answers(study, 3, "clic")
    store_answers(store, answers)
    tree = answers_tree(study, home / "study", store)
    assert len(tree["answers"]) == len(answers)
    assert len(tree["raters"]) == 3
    fields = {f"{part}.{name}" for part in ("raters", "answers") for row in tree[part] for name in row}
    assert fields == set(DICTIONARY)
    row = next(a for a in tree["answers"] if a["kind"] == "study")
    group = study.by_name[row["group"]]
    assert row["method"] == next(p.method for p in group.pictures if p.file == row["choice"])
    assert row["shown"][row["position"] - 1] == row["method"]
    assert tree["raters"][0]["code"] == code_of(tree["raters"][0]["rater"], study_secret(home / "study"))


@pytest.mark.parametrize("tool", ["label-studio", "potato"])
def test_other_tools_get_complete_and_blind_tasks(study: Study, home: Path, tmp_path: Path, tool: str) -> None:
    folder = export_for_tool(study, home / "study", tool, tmp_path / tool)
    if tool == "label-studio":
        view = ElementTree.parse(folder / "config.xml").getroot()
        assert [c.get("name") for c in view.iter("Choices")] == ["text", "identity", "quality"]
        assert [c.get("value") for c in next(view.iter("Choices"))] == ["A", "B", "C"]
        tasks = [task["data"] for task in json.loads((folder / "tasks.json").read_text())]
        used = {
            element.get("value", "").removeprefix("$")
            for element in view.iter()
            if element.get("value", "").startswith("$")
        }
        assert used <= set(tasks[0])
    else:
        config = json.loads((folder / "config.yaml").read_text())
        tasks = json.loads((folder / config["data_files"][0]).read_text())
        assert [scheme["labels"] for scheme in config["annotation_schemes"]] == [["A", "B", "C"]] * 3
        assert {field["key"] for field in config["instance_display"]["fields"]} <= set(tasks[0])
    assert len(tasks) == len(study.groups)
    for task in tasks:
        head, _, data = task["pictures"].partition(",")
        assert head == "data:image/png;base64"
        import base64

        assert Image.open(io.BytesIO(base64.b64decode(data))).width >= 3 * 256
    outside = "".join(path.read_text() for path in folder.iterdir() if path.is_file() and path.suffix != ".txt")
    assert not any(f'"{method}"' in outside for method in METHODS)
    rows = list(csv.DictReader(io.StringIO((folder / "key" / "methods.csv").read_text())))
    assert len(rows) == len(study.groups) * 3


def test_an_unknown_tool_is_refused(study: Study, home: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="format excel: unknown; choose json, label-studio, potato"):
        export_for_tool(study, home / "study", "excel", tmp_path / "x")


def test_the_papers_table_is_next_to_ours(study: Study) -> None:
    analysis = analyse(study, simulated_answers(study, 12, "magictailor"))
    assert [sum(share[i] for share in SHARES.values()) for i in range(3)] == pytest.approx([100, 100, 99.9])
    made = {name: make(analysis) for name, make in FORMATS.items()}
    for name in ("text", "markdown", "latex"):
        assert "56.5" in made[name], name
        assert "text alignment" in made[name]
    assert "chance is 33.3" in made["text"]
    assert r"[" in made["latex"]
    assert made["latex"].count(r"\\") == 4
    rows = list(csv.DictReader(io.StringIO(made["csv"])))
    assert len(rows) == 9
    row = next(r for r in rows if r["method"] == "magictailor" and r["question"] == "identity")
    assert float(row["paper"]) == pytest.approx(published("magictailor", "identity") / 100)
    assert float(row["low"]) <= float(row["share"]) <= float(row["high"])


def test_the_commands_print_the_table_and_draw_it(tmp_path: Path, call: Call) -> None:
    study = made_up_study(tmp_path, answering=Answering(tie=True))
    folder = tmp_path / "study"
    empty = call("study", "table", folder)
    assert (empty.code, "no answers yet" in empty.err) == (2, True)
    store = Store(study, folder)
    store_answers(store, simulated_answers(study, 8, "clic"))
    store.close()
    shown = call("study", "table", folder, "--format", "markdown", "--figure", tmp_path / "shares.png")
    assert shown.code == 0, shown.err
    assert "| clic |" in shown.out
    with Image.open(tmp_path / "shares.png") as figure:
        assert figure.width > 600
    assert "that of 8 raters so far" in call("study", "plan", folder).out
    for _ in range(2):  # over its own
        assert call("study", "export", folder, "--output", tmp_path / "a.json").code == 0
    (tmp_path / "run.json").write_text('{"versions": {"magictailor": "0.1.0"}}')
    assert "--output" in call("study", "export", folder, "--output", tmp_path / "run.json").err
    assert "0.1.0" in (tmp_path / "run.json").read_text()
    rater = json.loads((tmp_path / "a.json").read_text())["raters"][0]["rater"]
    assert "1 of 1 raters removed" in call("study", "erase", folder, rater).out
    assert "0 of 1 raters removed" in call("study", "erase", folder, rater).out
    assert "RATERS nobody: not a rater" in call("study", "erase", folder, "nobody").err
    assert "--format pdf: no such format" in call("study", "table", folder, "--format", "pdf").err


def test_what_cannot_be_served_is_refused_before_anything_is_written(tmp_path: Path, call: Call) -> None:
    made_up_study(tmp_path, entry=Entry(mode="invited", invitations=2))
    folder = tmp_path / "study"
    before = sorted(folder.rglob("*"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = {
            ("--port", taken.getsockname()[1]): "taken by another program; choose another",
            ("--port", -1): "--port -1: not a port; choose",
            ("--port", 70000): "--port 70000: not a port; choose",
            ("--host", "nope.invalid"): "--host nope.invalid: not an address of this computer; try",
        }
        for option, line in refused.items():
            result = call("study", "serve", folder, *option)
            assert (result.code, line in result.err) == (2, True), result.err
    for command in (("table",), ("plan",), ("erase", "nobody"), ("export", "--output", folder)):
        assert call("study", command[0], folder, *command[1:]).code == 2, command
    picture = next((folder / "pictures").iterdir())
    picture.write_text("x")
    for command in (
        ("serve",),
        ("page", "--output", tmp_path / "p"),
        ("export", "-o", tmp_path / "p", "--format", "potato"),
    ):
        result = call("study", command[0], folder, *command[1:])
        assert (result.code, f"{picture}: not a PNG or JPEG that can be opened; copy" in result.err) == (2, True), (
            result.err
        )
    assert sorted(folder.rglob("*")) == before
    assert not (tmp_path / "p").exists()
