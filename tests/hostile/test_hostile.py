"""More than a thousand hostile inputs by generation, in one process."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from hostile.harness import ended, refused_or
from magictailor.common.errors import InputError
from magictailor.common.tensors import read_tensors
from magictailor.evaluate.spec import read_spec
from magictailor.exports.inspection import inspect
from magictailor.generation.checks import check_numbers, check_prompt
from magictailor.methods import METHODS, recipe_for
from magictailor.recipe import Recipe
from magictailor.training.metrics import read_metrics
from magictailor.training.run_folder import (
    LORA_FILE,
    METRICS_FILE,
    RUN_FILE,
    STATE_FILE,
    WORDS_FILE,
    RunInfo,
    finished_run,
)
from tiny import pair, recipe, train


def many(examples: int) -> Any:
    """So many examples, the same ones each time."""
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


TEXTS = some.text(max_size=12) | some.sampled_from(
    ["", "../x", "~nobody/x", "a\x00b", "\x1b[2J", "é😀", "n" * 300, "<v0>", "{}", "{concept", "%s", "NaN", "\u202eabc"]
)
NUMBERS = some.integers(-3, 70) | some.integers() | some.floats() | some.sampled_from([10**400, -(2**64), 2**63])
LEAVES = some.none() | some.booleans() | NUMBERS | TEXTS
TREES = some.recursive(
    LEAVES, lambda t: some.lists(t, max_size=3) | some.dictionaries(TEXTS, t, max_size=3), max_leaves=6
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as work:
        yield Path(work)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    plan = recipe("phases.0.steps=1", "phases.1.steps=1", "sampling.steps=2")
    return train(pair(), tmp_path_factory.mktemp("hostile") / "run", model=str(tiny_folder), recipe=plan)


# --- safetensors

DTYPES = some.sampled_from(["F32", "F16", "BF16", "I64", "F8_E4M3", "F4", "X9", "", None, 3])
NAMES = some.sampled_from(
    [
        "lora_unet_a.lora_down.weight",
        "lora_unet_a.alpha",
        "emb_params",
        "words.<a>.clip",
        "unet.x.lora_A.weight",
        "\x1b[31m",
    ]
) | some.text(max_size=6)
SHAPES = some.lists(some.integers(-1, 4) | some.sampled_from([2**62, 1.5, None, "a"]), max_size=4)
ENTRIES = some.fixed_dictionaries(
    {}, optional={"dtype": DTYPES, "shape": SHAPES | LEAVES, "data_offsets": some.lists(some.integers(-1, 40), max_size=3)}
)  # fmt: skip
HEADERS = some.dictionaries(NAMES, ENTRIES | LEAVES, max_size=3) | TREES


@many(300)
@given(header=HEADERS, data=some.binary(max_size=40), grow=some.sampled_from([0, 0, 0, 1, -1, 10**9]))
def test_headers(header: Any, data: bytes, grow: int, folder: Path) -> None:
    text = json.dumps(header).encode()
    (folder / "a.safetensors").write_bytes(max(0, len(text) + grow).to_bytes(8, "little") + text + data)
    refused_or(inspect, folder / "a.safetensors")
    refused_or(read_tensors, folder / "a.safetensors")


@many(60)
@given(data=some.binary(max_size=200))
def test_bytes_through_the_command(data: bytes, folder: Path) -> None:
    (folder / "b.safetensors").write_bytes(data)
    ended(folder, "inspect", folder / "b.safetensors")


# --- recipes

KEYS = some.sampled_from(
    ["phases.0.lr", "phases.0.steps", "train.0.rank", "train", "phases", "data.batch", "data.size", "optimisation.betas",
     "prompts.template", "prompts.initial_words", "sampling", "loss.prior", "phases.1.preserve", "seed", "train.9.rank", ""]
) | TEXTS  # fmt: skip


@many(300)
@given(key=KEYS, value=TREES, method=some.sampled_from(sorted(METHODS)))
def test_recipes(key: str, value: Any, method: str) -> None:
    made = refused_or(recipe_for, "embedded", method, [f"{key}={json.dumps(value)}"])
    if isinstance(made, Recipe):
        assert Recipe.model_validate_json(json.dumps(made.dump())) == made
        assert all(0 <= beta < 1 for beta in made.optimisation.betas)
    else:
        assert "\n" not in str(made)
        assert "Input should" not in str(made)


@many(100)
@given(prompt=TEXTS | some.text(max_size=40), numbers=some.lists(some.none() | some.integers(), min_size=5, max_size=5))
def test_prompts_and_numbers(prompt: str, numbers: list[int | None]) -> None:
    refused_or(check_prompt, prompt, ["<a>", "<b>"])
    number, *others = numbers
    refused_or(check_numbers, 2, number or 0, 0, *others)


# --- run folders


@many(200)
@given(
    key=some.sampled_from(["model", "base", "pair", "recipe", "loras", "start", "precision", "preset", "finished", "format"]),
    inner=some.sampled_from(["", "samples", "name", "phases", "train", "data"]),
    value=TREES,
)  # fmt: skip
def test_a_run_that_was_edited(key: str, inner: str, value: Any, run: Path, folder: Path) -> None:
    tree = json.loads((run / RUN_FILE).read_text())
    if inner and isinstance(tree[key], dict):
        tree[key][inner] = value
    else:
        tree[key] = value
    (folder / RUN_FILE).write_text(json.dumps(tree))
    found = refused_or(finished_run, folder)
    if not isinstance(found, InputError):
        info = found[1]
        assert isinstance(info, RunInfo)
        assert info.words
        assert all(isinstance(text, str) for text in (info.model, info.precision, *info.words))
    (folder / RUN_FILE).unlink()


@pytest.mark.parametrize("name", [LORA_FILE, WORDS_FILE, STATE_FILE, RUN_FILE])
def test_every_cut_of_a_runs_files_is_refused_by_name(name: str, run: Path, folder: Path) -> None:
    whole = (run / name).read_bytes()
    cut = folder / name
    for end in sorted({*range(0, len(whole), 4096), 1, 7, 8, 9, len(whole) - 1}):
        cut.write_bytes(whole[:end])
        refused = refused_or(finished_run, folder) if name == RUN_FILE else refused_or(read_tensors, cut)
        if end == len(whole) - 1 and name == RUN_FILE:  # its last line's end
            continue
        assert isinstance(refused, InputError)
        assert name in str(refused)
    cut.unlink()


@many(60)
@given(data=some.binary(max_size=60), at=some.integers(0, 400))
def test_metrics_that_were_edited(data: bytes, at: int, run: Path, folder: Path) -> None:
    whole = (run / METRICS_FILE).read_bytes()
    (folder / METRICS_FILE).write_bytes(whole[:at] + data + whole[at:])
    for row in read_metrics(folder):
        assert all(isinstance(value, int | float) for value in row.values())


# --- TOML and trees of files

TOML = some.recursive(
    some.booleans() | some.integers(-3, 2**40) | some.floats(allow_nan=False) | TEXTS | some.just("world:100000000+1"),
    lambda t: some.lists(t, max_size=3),
    max_leaves=4,
)


def toml(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, float) else repr(value)


@many(120)
@given(
    table=some.dictionaries(
        some.sampled_from(["label", "word", "images", "masks", "exclude", "colour"]), TOML, max_size=5
    )
)
def test_pairs_in_toml(table: dict[str, Any], folder: Path) -> None:
    lines = [f"{key} = {toml(value)}" for key, value in table.items()]
    (folder / "pair.toml").write_text("\n".join(["[[samples]]", *lines]), "utf-8", "surrogatepass")
    assert ended(folder, "pair", folder / "pair.toml") == 2


@many(120)
@given(
    table=some.dictionaries(
        some.sampled_from(["pairs", "methods", "prompts", "seeds", "batch", "settings", "method_settings", "metrics", "model"]),
        TOML | some.dictionaries(TEXTS, TOML, max_size=2), max_size=4,
    ),
    rest=some.sampled_from(["", "x = 1979-05-27", "[a]\nb = [[[1]]]", "= 3", "\x00"]),
)  # fmt: skip
def test_benches_in_toml(table: dict[str, Any], rest: str, folder: Path) -> None:
    def written(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
        return toml(value)

    lines = [f"{key} = {written(value)}" for key, value in table.items()]
    (folder / "bench.toml").write_text("\n".join([*lines, rest]), "utf-8", "surrogatepass")
    refused_or(read_spec, folder / "bench.toml")


@many(100)
@given(
    names=some.lists(
        some.sampled_from(["0_a_1.jpg", "1_b_1.png", "masks/0_a_1.png", "0_a/x.jpg", "pair.toml", "x.heic", "\udcff.jpg", "..png"])
        | some.text("ab_01. é", min_size=1, max_size=9), max_size=5,
    ),
    content=some.sampled_from([b"", b"GIF89a", b"\xff\xd8\xff", b"<svg/>", b"label"]),
    kind=some.sampled_from(["file", "folder", "link", "pipe"]),
)  # fmt: skip
def test_trees_of_files(names: list[str], content: bytes, kind: str, folder: Path) -> None:
    place = folder / "tree"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for number, name in enumerate(dict.fromkeys(names)):
        path = place / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if number == 0 and kind == "pipe":
                os.mkfifo(path)
            elif number == 0 and kind == "link":
                path.symlink_to("nowhere")
            elif number == 0 and kind == "folder":
                path.mkdir()
            else:
                path.write_bytes(content)
        except OSError:
            continue
    assert ended(folder, "pair", place) == 2
    shutil.rmtree(place)
