"""A run that starts from another, or from an export in any spelling, starts with what that one had learned."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from magictailor.common.errors import InputError
from magictailor.common.tensors import read_tensors
from magictailor.data import Pair
from magictailor.exports import export
from magictailor.training.run_folder import LORA_FILE, WORDS_FILE
from magictailor.training.setup import build
from magictailor.training.start import read_start
from tiny import backbone, pair, recipe, train

STRONG = ("phases.0.lr=0.05", "phases.1.lr=0.05", "train.0.alpha=16")


@pytest.fixture(scope="module")
def first(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(pair(), tmp_path_factory.mktemp("runs") / "ada", model=str(tiny_folder), recipe=recipe(*STRONG))


@pytest.mark.parametrize("format", ["run", "diffusers", "kohya", "comfyui"])
@pytest.mark.parametrize("alpha", ["16", "2"])
def test_it_starts_with_the_same_change_of_weights_and_the_same_words(
    format: str, alpha: str, first: Path, tmp_path: Path
) -> None:
    """Whatever alpha the new run has: B is scaled to it."""
    source = first if format == "run" else export(first, tmp_path / "out", format)
    started = build(pair(), recipe(f"train.0.alpha={alpha}"), backbone(), read_start(source))
    learned, words = read_tensors(first / LORA_FILE), read_tensors(first / WORDS_FILE)
    for name, a in started.trained.lora.items():
        if ".lora_A." not in name:
            continue
        b = started.trained.lora[name.replace(".lora_A.", ".lora_B.")]
        key = f"unet.{name.replace('.default', '')}"
        wanted = learned[key.replace(".lora_A.", ".lora_B.")] @ learned[key] * 16 / 4
        torch.testing.assert_close((b @ a).detach() * int(alpha) / 4, wanted, rtol=1e-4, atol=1e-6)
        assert wanted.abs().max() > 1e-4
    for name, row in started.trained.words.items():
        torch.testing.assert_close(row.detach(), words[f"words.{name}"])


def test_a_word_is_taken_by_its_name_not_by_its_end(tiny_folder: Path, tmp_path: Path) -> None:
    """<long-hair> is no <hair>, whatever its file is called."""
    two = Pair("two", tuple(replace(s, word=w) for s, w in zip(pair().samples, ("<hair>", "<long-hair>"), strict=True)))
    run = train(two, tmp_path / "run", model=str(tiny_folder), recipe=recipe(*STRONG))
    start = read_start(export(run, tmp_path / "out", "kohya"))
    wanted = read_tensors(run / WORDS_FILE)
    started = build(two, recipe(), backbone(), start)
    for name, row in started.trained.words.items():
        torch.testing.assert_close(row.detach(), wanted[f"words.{name}"])
    with pytest.raises(InputError, match="no pseudo-word <person>"):
        build(pair(), recipe(), backbone(), start)


def test_a_run_in_a_folder_is_of_one_start(first: Path, tiny_folder: Path, tmp_path: Path) -> None:
    made = train(pair(), tmp_path / "run", model=str(tiny_folder), recipe=recipe(*STRONG), start=first)
    with pytest.raises(InputError, match=r"another run \(start differs"):
        train(pair(), made, model=str(tiny_folder), recipe=recipe(*STRONG))


def test_what_does_not_fit_is_refused_and_nothing_is_written(first: Path, tiny_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    with pytest.raises(InputError, match=r"its rank is 4; set train\.0\.rank=4"):
        build(pair(), recipe("train.0.rank=8"), backbone(), read_start(first))
    with pytest.raises(InputError, match="no pseudo-word <hat>"):
        build(pair((1, 1, 1)), recipe(), backbone(), read_start(first))
    with pytest.raises(InputError, match="only a recipe that trains a LoRA and pseudo-words"):
        build(pair(), recipe(method="magictailor-reference"), backbone(), read_start(first))
    with pytest.raises(InputError, match="is a whole model"):
        read_start(export(first, tmp_path / "whole", "checkpoint"))
    with pytest.raises(InputError, match="no LoRA or pseudo-word in it"):
        read_start(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read_start("x" * 300)  # longer than any name
    with pytest.raises(InputError, match="its rank is 4"):
        train(pair(), output, model=str(tiny_folder), recipe=recipe("train.0.rank=8"), start=first)
    assert not output.exists()
