"""What a bench's commands refuse: specs, places; one line, and nothing is written."""

import sys
from pathlib import Path

import pytest

from tiny import Call

ENDPOINT = 'primary = {method = "clic", against = "magictailor", metric = "identity"}'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pairs = []", "pairs"),
        ("pairs = 3", "pairs"),
        ('pairs = ["world:5"]\nmethods = ["magic"]', "magic is not a method"),
        ('pairs = ["world:5"]\nprompts = ["a {subject}"]', "not a study"),
        ('pairs = ["world:5"]\nseeds = 0', "seeds"),
        ('pairs = ["world:5"]\ncolour = 1', "colour"),
        ('pairs = ["world:5"]\nmethod_settings = {magic = []}', "magic is not a method"),
        ('pairs = ["world:5+0"]', "no pair"),
        ('pairs = ["world:5"]\nprompts = ["<foo> with {component}"]', "write {concept}"),
        ('pairs = ["world:5"]\nsegmenter = "dino-sam"', "is not a segmenter"),
        ('pairs = ["world:5"]\nsettings = ["loss.prior.images=5"]', "unknown key"),
        ('pairs = ["world:5"]\nmetrics = ["beauty"]', "choose from judge, quality"),
        ('pairs = ["world:5"]\nweights = {clop = "here"}', "choose from clip, dino"),
        ('pairs = ["world:5"]\nmetrics = ["clip-t"]\nweights = {clip = "/nowhere"}', "hf download /nowhere"),
        ('pairs = ["world:5", "world:4+3"]', "two are called world-5"),
        ('pairs = ["world:9999999999"]', "9999999999"),
        ('pairs = ["nowhere"]', "nowhere"),
        ("pairs", "not valid TOML"),
        ("pairs = " + "[" * 3000 + "]" * 3000, "not valid TOML"),
        ("pairs = [2026-11-27]\nseeds = 07:30:00", "seeds"),
        ("pairs = [1979-05-27T07:32:00Z]", "1979-05-27"),
        ('pairs = ["world:1000000000+1000000000"]', "1000000000 pairs"),
        ('pairs = ["world:4294967290+9"]', "out of range"),
        ('pairs = ["~no-such-user/pair"]', "not a path"),
        ('pairs = ["a\\u0000b"]', "not a path"),
        ('pairs = ["world:5"]\ntraining_seeds = 0', "training_seeds"),
        ('pairs = ["world:5"]\nvariants = {truth = ["clic"]}', "truth has a meaning already"),
        ('pairs = ["world:5"]\nvariants = {mine = ["magic"]}', "write a method and its changes"),
        ('pairs = ["world:5"]\nvariants = {"../up" = ["clic"]}', "variants"),
        ('pairs = ["world:5"]\nprimary = "identity"', "primary"),
        (
            'pairs = ["world:5"]\nprimary = {method = "magictailor", against = "clic", metric = "identity"}',
            "clic is not among",
        ),
        (
            'pairs = ["world:5"]\nprimary = {method = "magictailor", against = "magictailor", metric = "text"}',
            "name two",
        ),
        (
            f'pairs = ["world:5"]\nmethods = ["magictailor", "clic"]\n{ENDPOINT.replace("identity", "identiti")}',
            "'identiti' is not a metric of this bench; choose from ",
        ),
        (
            f'pairs = ["world:5"]\nmethods = ["magictailor", "clic"]\ncontrasts = [{ENDPOINT.partition(" = ")[2]}]\n'
            'metrics = ["quality"]',
            "'identity' is not a metric of this bench; choose from kid",
        ),
        ('pairs = ["world:5"]\nvariants = {"../up" = ["clic"]}', "'../up': begin a name with a small letter"),
        ('pairs = ["world:1+2-foo"]', "'world:1+2-foo': not pairs of the world; write world:SEED, world:SEED+NUMBER"),
        ('pairs = ["world:-5+2"]', "not pairs of the world"),
        (f'pairs = ["world:{"1" * 23}"]', "not pairs of the world"),
        ('pairs = ["world:5"]\nmethods = ["clic", "clic"]', "'clic' is listed 2 times"),
        ('pairs = ["practice", "practice"]', "'practice' is listed 2 times"),
        ('pairs = ["world:5"]\nprompts = ["protocol", "protocol"]', "'protocol' is listed 2 times"),
        ('pairs = ["world:5"]\nseeds = true', "seeds: True; expected a whole number"),
        ('pairs = ["world:5"]\nanchors = "yes"', "anchors: 'yes'; expected true or false"),
        ('pairs = ["world:5"]\nmethod_settings = {clic = ["seed=1"]}', "clic is not among the methods"),
        (".".join("a" * 4000) + " = 1", "nested too deeply"),
        (".".join("a" * 400) + " = 1", "tables of a few levels"),
        (
            'pairs = ["world:5"]\nsettings = ["sampling.steps=20", "sampling.base_steps=20"]',
            "recipe: sampling.base_steps: only for recipes",
        ),
        ('pairs = ["world:5"]\nmethods = ["clic"]\nsettings = ["sampling.steps=1"]', "recipe: "),
    ],
)
def test_bad_specs_are_one_line_and_write_nothing(text: str, words: str, tmp_path: Path, call: Call) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    result = call("bench", "run", path, "--output", tmp_path / "bench")
    assert (result.code, words in result.err, result.err.count("\n")) == (2, True, 1), result
    assert len(result.err) < 500
    assert not (tmp_path / "bench").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("foo://x", "foo://x: not the URL of a store; choose a folder"),
        ("http://x/y", "a web server takes no files"),
        ("s3://x", "run `pip install 'magictailor[s3]'`"),
        ("box://x", "the library for box:// is not installed"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line(
    url: str, words: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    (tmp_path / "spec.toml").write_text('pairs = ["world:5"]')
    result = call("bench", "run", tmp_path / "spec.toml", "--output", url)
    assert (result.code, words in result.err, result.err.count("\n")) == (2, True, 1), result
    assert "--output" in result.err
    if not url.startswith("http"):
        result = call("bench", "table", url)
        assert (result.code, f"BENCH {words}" in result.err or words in result.err) == (2, True), result
        assert "--output" not in result.err


def test_a_file_is_no_bench(tmp_path: Path, call: Call) -> None:
    (tmp_path / "spec.toml").write_text('pairs = ["world:5"]')
    (tmp_path / "pic.png").write_bytes(b"")
    for command, name in (
        (("status", tmp_path / "spec.toml", "--output", tmp_path / "pic.png"), "--output"),
        (("table", tmp_path / "pic.png"), "BENCH"),
    ):
        result = call("bench", *command)
        assert (result.code, f"{name} {tmp_path / 'pic.png'}: is a file" in result.err) == (2, True), result


def test_two_thousand_pairs_are_planned_without_drawing_one(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magictailor.evaluate.sources.world_pair", lambda *_: pytest.fail("drawn"))
    (tmp_path / "spec.toml").write_text('pairs = ["world:1000000000+2000"]\nmethods = ["magictailor", "clic"]')
    result = call("bench", "status", tmp_path / "spec.toml", "--output", tmp_path / "bench")
    assert (result.code, result.out.strip()) == (0, "12000 trials: 12000 waiting")
    assert not (tmp_path / "bench").exists()
