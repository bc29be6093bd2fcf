"""The command line: what it does, and that a mistake is one line and leaves nothing behind."""

import json
import shutil
from pathlib import Path

import pytest
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from magictailor.common.errors import RunError, RunStopped
from magictailor.recipe import recipe_from
from tiny import Call, Result, pair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pair as a user has it."""
    made = tmp_path / "pair"
    (made / "masks").mkdir(parents=True)
    for number, sample in enumerate(pair().samples):
        name = f"{number}_{sample.label}_1.png"
        sample.references[0].image.save(made / name)
        sample.references[0].mask.save(made / "masks" / name)
    return made


FEW = (
    "--set",
    "phases.0.steps=1",
    "--set",
    "phases.1.steps=1",
    "--set",
    "sampling.preview_every=0",
    "--set",
    "train.0.rank=2",
)


def test_train_and_generate(call: Call, folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = call("train", folder, "--output", run, "--model", tiny_folder, *FEW)
    assert (trained.code, trained.err) == (0, "")
    assert "magictailor generate" in trained.out
    assert json.loads((run / "run.json").read_text())["finished"] is True
    again = call("train", folder, "--output", run, "--model", tiny_folder, *FEW)
    assert again.code == 0
    generated = call("generate", run, "<person> with <hair>", "--number", 2, "--steps", 2, "--seed", 4)
    assert (generated.code, generated.err) == (0, "")
    assert sorted(p.name for p in (run / "images").iterdir()) == [
        "person-with-hair-4.png",
        "person-with-hair-5.png",
        "sheet.png",
    ]
    other = call("train", folder, "--output", run, "--model", tiny_folder, *FEW, "--set", "seed=3")
    assert (other.code, other.err.count("\n")) == (2, 1)
    assert "another run" in other.err
    unknown = call("generate", run, "<person> with <hat>")
    assert (unknown.code, unknown.err.count("\n")) == (2, 1)
    assert "<hat>" in unknown.err


def test_a_dry_run_prints_a_recipe_and_writes_nothing(
    call: Call, folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = call("train", folder, "--dry-run", "--model", tiny_folder, "--method", "plain-lora", "--set", "seed=7")
    assert (result.code, result.err) == (0, "")
    recipe = recipe_from(json.loads(result.out))
    assert (recipe.method, recipe.seed, recipe.steps) == ("plain-lora", 7, 150)
    assert sorted(tmp_path.rglob("*")) == before


def test_pair_prints_and_makes_its_sheet(call: Call, folder: Path, tmp_path: Path) -> None:
    result = call("pair", folder, "--sheet", tmp_path / "sheet.png")
    assert (result.code, result.err) == (0, "")
    assert "<person>" in result.out
    assert "<hair>" in result.out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 100


def refused(result: Result, *words: str) -> None:
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err + result.out
    assert [w for w in words if w not in result.err] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "dreambooht"), ("--method dreambooht", "nearest is dreambooth", "clic", "magictailor recipes")),
        (("--set", "phases.0.lrr=1"), ("phases.0.lrr", "phases.0.lr")),
        (("--set", "phases.0.steps=0"), ("phases.0.steps",)),
        (("--set", "seed"), ("key=value",)),
        (("--set", "method=plain-lora"), ("--method",)),
        (("--set", "prompts.template=a photo of {:d}"), ("prompt", "write {} once")),
        (("--set", "prompts.template=a photo of {!r}"), ("prompt", "write {} once")),
        (("--set", "train=[]"), ("train",)),
        (("--set", 'train=[{"kind": "lora"}, {"kind": "lora"}]'), ("train", "once")),
        (("--set", "train.0.rank=1000000000000"), ("rank",)),
        (("--set", f"phases.0.steps={'9' * 400}"), ("steps",)),
        (("--set", f"seed={'[' * 5000}"), ("seed",)),
        (("--set", "sampling.steps=1001"), ("sampling.steps", "1000")),
        (("--set", "sampling.guidance=1e308"), ("guidance", "100")),
        (("--model", "nowhere"), ("--model nowhere",)),
        (("--model", "n" * 300), ("--model nnn",)),
        (("--nonsense",), ("--nonsense", "--help")),
    ],
)
def test_mistakes_in_training(
    arguments: tuple[str, ...], words: tuple[str, ...], call: Call, folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    model = () if "--model" in arguments else ("--model", tiny_folder)
    refused(call("train", folder, "--output", tmp_path / "run", *model, *arguments), *words)
    assert sorted(tmp_path.rglob("*")) == before


def test_mistakes_in_the_pair(call: Call, folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for path, word in ((tmp_path / "missing", "does not exist"), (tmp_path / "empty", "no images")):
        refused(call("train", path, "--output", tmp_path / "run"), str(path), word)
        refused(call("pair", path), str(path), word)
    refused(call("train", folder, "--model", tiny_folder), "--output")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_word_that_the_base_knows_is_refused_and_nothing_written(
    call: Call, folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (folder / "pair.toml").write_text(
        '[[samples]]\nlabel = "person"\nword = "person"\nimages = ["0_person_1.png"]\n', "utf-8"
    )
    refused(call("train", folder, "--output", tmp_path / "run", "--model", tiny_folder), "person")
    assert not (tmp_path / "run").exists()


def test_mistakes_in_generating(call: Call, tmp_path: Path) -> None:
    refused(call("generate", tmp_path / "missing", "<person>"), "missing", "magictailor train")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{")
    refused(call("generate", tmp_path / "run", "<person>"), "damaged")
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("damage", ['{"recipe": {}}', "[]", '{"model": "x", "pair": 3, "recipe": 4}'])
def test_a_damaged_run_is_one_line(damage: str, call: Call, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(damage)
    refused(call("generate", tmp_path, "<person>"))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RunError("the disk is full"), 1, "error: the disk is full"),
        (RunStopped("stopped after step 3"), 130, "stopped after step 3"),
        (KeyboardInterrupt(), 130, "the same command resumes"),
    ],
)
def test_a_run_that_cannot_go_on_is_one_line(
    error: BaseException, code: int, message: str, call: Call, folder: Path, tiny_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def stopped(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("magictailor.training.train.train", stopped)
    result = call("train", folder, "--output", tmp_path / "run", "--model", tiny_folder)
    assert result.code == code
    assert len(result.err.strip().splitlines()) == 1
    assert message in result.err
    assert result.err.startswith("error") == (code == 1)
    assert "Traceback" not in result.err


def test_output_that_cannot_be_is_refused_before_any_work(
    call: Call, folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    model = ("--model", tiny_folder, *FEW)
    for output in (tmp_path / "file", tmp_path / "file" / "x", tmp_path / ("n" * 300), folder / "runs" / "first"):
        refused(call("train", folder, "--output", output, *model), "--output")
        refused(call("demo", "--output", tmp_path / "file" / "x"), "--output")
        refused(call("demo", "--output", tmp_path / "new", "--pair", -1), "--pair -1: out of range")
    for output in (tmp_path / "file" / "x", tmp_path / ("n" * 300), folder):
        refused(call("world", "pair", "--seed", 1, "--output", output), "--output")
    for sheet in (folder / "sheet.png", tmp_path, tmp_path / "file" / "x.png", tmp_path / "link", "/dev/full", "."):
        refused(call("pair", folder, "--sheet", sheet), "--sheet")
    assert sorted(tmp_path.rglob("*")) == before
    assert Path("/dev/full").is_char_device()


def test_a_link_to_an_empty_folder_holds_a_pair(call: Call, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert call("world", "pair", "--seed", 1, "--output", tmp_path / "link").code == 0
    assert (tmp_path / "real" / "truth").is_dir()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--device", "nonsense"), "--device nonsense"),
        (("--device", "cuda:99"), "--device cuda:99"),
        (("--rate", "inf"), "rate"),
        (("--seed", 2**64), "seed"),
        (("--pictures", 10), "pictures"),
        (("--start", "middle"), "start"),
    ],
)
def test_mistakes_in_training_the_base(
    arguments: tuple[object, ...], word: str, call: Call, folder: Path, tmp_path: Path
) -> None:
    refused(call("world", "train", "--output", tmp_path / "base", *arguments), word)
    assert not (tmp_path / "base").exists()
    before = sorted(folder.rglob("*"))
    refused(call("world", "train", "--output", folder), "exists and is not a training")
    assert sorted(folder.rglob("*")) == before


def test_an_empty_option_is_no_missing_one(call: Call, folder: Path, tmp_path: Path) -> None:
    refused(call("train", folder, "--output", tmp_path / "run", "--precision", ""), "''")
    refused(call("train", folder, "--output", tmp_path / "run", "--device", ""), "device")
    assert not (tmp_path / "run").exists()


def test_a_demo_of_another_pair_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text('{\n  "pair": 10,\n  "method": "magictailor"\n}\n')
    refused(call("demo", "--pair", 1, "--output", tmp_path), "another folder")
    (tmp_path / "demo.json").write_bytes(b"\xff\xfe")
    refused(call("demo", "--pair", 1, "--output", tmp_path), "another folder")


def test_names_that_look_like_markup_are_printed_as_they_are(
    call: Call, folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "[red]a[/v2]"
    result = call("train", folder, "--output", run, "--model", tiny_folder, *FEW)
    assert (result.code, result.err) == (0, "")
    assert "[red]a[/v2]" in result.out.replace("\n", "")
    for broken in ("words.safetensors", "pytorch_lora_weights.safetensors"):
        whole = (run / broken).read_bytes()
        (run / broken).write_bytes(whole[: len(whole) // 2])
        refused(call("generate", run, "<person>"), broken, "damaged")
        (run / broken).unlink()
        refused(call("generate", run, "<person>"), broken, "missing")
        (run / broken).write_bytes(whole)
    for wrong in ("nan", "inf", "1e308", "-1"):
        refused(call("generate", run, "<person>", "--guidance", wrong), "guidance")
    refused(call("generate", run, "<person>", "--steps", 1001), "1000")
    refused(call("generate", run, "<person>", "--number", 0), "number")
    refused(call("generate", run, "<person>", "--seed", 2**32 - 1, "--number", 2), "seed")


def test_a_lora_alone_trains_and_generates(call: Call, folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    alone = ("--set", 'train=[{"kind": "lora", "rank": 2}]')
    run = tmp_path / "run"
    few = FEW[:-2]
    result = call("train", folder, "--output", run, "--model", tiny_folder, *few, *alone)
    assert (result.code, result.err) == (0, "")
    generated = call("generate", run, "<person>", "--number", 1, "--steps", 2)
    assert (generated.code, generated.err) == (0, "")


@pytest.mark.parametrize("damage", ["number", "index", "tokenizer", "flow", "weights"])
def test_a_damaged_base_is_one_line(damage: str, call: Call, folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_folder, base)
    match damage:
        case "number":
            (base / "model_index.json").write_text("5")
        case "index":
            config = json.loads((base / "unet" / "config.json").read_text())
            (base / "unet" / "config.json").write_text(json.dumps({**config, "sample_size": None}))
        case "tokenizer":
            shutil.rmtree(base / "tokenizer")
        case "flow":
            FlowMatchEulerDiscreteScheduler().save_pretrained(base / "scheduler")
            index = json.loads((base / "model_index.json").read_text())
            index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
            (base / "model_index.json").write_text(json.dumps(index))
        case _:
            weights = next((base / "text_encoder").glob("*.safetensors"))
            weights.write_bytes(weights.read_bytes()[:1000])
    refused(call("train", folder, "--output", tmp_path / "run", "--model", base), str(base))
    assert not (tmp_path / "run").exists()
