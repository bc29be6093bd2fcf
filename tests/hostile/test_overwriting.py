"""Nothing that a user has is written over or used in part: what is there, what is damaged, what contradicts itself."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from magictailor import InputError, export, load, personalize
from magictailor.cli.ending import FAILED, ending
from magictailor.common.files import output_file
from magictailor.common.pictures import MADE, PNG, save_png
from magictailor.common.tensors import read_tensors, write_tensors
from magictailor.data.masks import files_of_stem
from magictailor.generation.images import save_images
from magictailor.training.run_folder import LORA_FILE, RUN_FILE, WORDS_FILE
from tiny import MAPS, PROMPT, Call, pair, recipe


@pytest.fixture(scope="module")
def made(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("magictailor.backbones.stable_diffusion.MAP_SIDE", MAPS)
        settings = ("phases.0.lr=0.05", "phases.1.lr=0.05", "sampling.preview_every=4")
        yield personalize(
            pair(), tmp_path_factory.mktemp("runs") / "run", model=str(tiny_folder), recipe=recipe(*settings)
        ).folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def test_only_what_the_same_command_wrote_is_written_over(tmp_path: Path) -> None:
    photo, sheet, words = tmp_path / "photo.png", tmp_path / "sheet.png", tmp_path / "words.safetensors"
    Image.new("RGB", (8, 8)).save(photo)
    save_png(Image.new("RGB", (8, 8)), sheet, MADE)
    words.write_bytes(b"weights")
    (tmp_path / "empty.png").touch()
    for path in (sheet, tmp_path / "new.png", tmp_path / "empty.png"):
        assert output_file(path, PNG) == path
    with pytest.raises(InputError, match=r"another file is there already; choose another name"):
        output_file(photo, PNG)
    with pytest.raises(InputError, match=r"not one of \.png; name it words\.png"):
        output_file(words, PNG)


def test_commands_that_write_one_file_keep_what_is_there(call: Call, run: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (8, 8)).save(photo)
    before = photo.read_bytes()
    (generated,) = save_images(load(run).generate(PROMPT), tmp_path / "images")  # it names the method, magictailor
    for kept in (photo, generated, run / RUN_FILE):
        assert call("learning", run, "-o", kept).code == 2
    assert photo.read_bytes() == before
    assert call("learning", run, "-o", tmp_path / "l.png").code == 0
    assert call("learning", run, "-o", tmp_path / "l.png").code == 0  # its own


def test_transfer_and_exports_want_a_new_folder(call: Call, run: Path, tmp_path: Path) -> None:
    kept = tmp_path / "mine" / "0.png"
    kept.parent.mkdir()
    kept.write_bytes(b"a photo")
    for arguments in (("transfer", run, kept, kept), ("export", run), ("merge", run, run)):
        result = call(*arguments, "-o", kept.parent)
        assert (result.code, "exists and is not empty" in result.err) == (2, True), result
    assert kept.read_bytes() == b"a photo"


def test_pictures_of_other_weights_get_another_name(run: Path, tmp_path: Path) -> None:
    """The same prompt, seed and settings; only the run differs."""
    save_images(load(run).generate(PROMPT), tmp_path / "both")
    save_images(load(run).generate(PROMPT), tmp_path / "both")
    assert len(list((tmp_path / "both").glob("person-*.png"))) == 1  # the same again
    tensors = read_tensors(run / LORA_FILE)
    write_tensors(run / LORA_FILE, {name: tensor * 1.5 for name, tensor in tensors.items()})
    first, second = (save_images(load(folder).generate(PROMPT), tmp_path / "both") for folder in (run, run))
    assert first == second
    kept = sorted((tmp_path / "both").glob("person-*.png"))
    assert len(kept) == 2
    assert len({Image.open(path).text["trained"] for path in kept}) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        (WORDS_FILE, lambda tensors: {name + "x": tensor for name, tensor in tensors.items()}),
        (WORDS_FILE, lambda tensors: {name: tensor[:, :3] for name, tensor in tensors.items()}),
        (WORDS_FILE, lambda tensors: {name: tensor.to(torch.int64) for name, tensor in tensors.items()}),
        (LORA_FILE, lambda tensors: {"a": torch.zeros(3, 3)}),
        (LORA_FILE, lambda tensors: {name: torch.zeros(3, 3) for name in tensors}),
        (LORA_FILE, lambda tensors: dict(list(tensors.items())[1:])),
    ],
)
@pytest.mark.parametrize("format", ["diffusers", "kohya"])
def test_a_damaged_result_is_neither_exported_nor_used(
    file: str, damage: object, format: str, run: Path, tmp_path: Path
) -> None:
    write_tensors(run / file, damage(read_tensors(run / file)))  # type: ignore[operator]
    with pytest.raises(InputError, match="damaged"):
        export(run, tmp_path / "out", format)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="damaged"):
        load(run)


def test_two_samples_of_one_word_are_no_run(run: Path) -> None:
    tree = json.loads((run / RUN_FILE).read_text("utf-8"))
    tree["pair"]["samples"][1]["word"] = tree["pair"]["samples"][0]["word"]
    (run / RUN_FILE).write_text(json.dumps(tree), "utf-8")
    with pytest.raises(InputError, match="two samples have one word"):
        load(run)


def test_previews_that_are_damaged_or_not_all_there(call: Call, run: Path, tmp_path: Path) -> None:
    (run / "previews" / "999999999999999999999-0.png").write_bytes(b"")  # of a step without the others
    assert call("learning", run, "-o", tmp_path / "l.png").code == 0
    next((run / "previews").glob("000004-*.png")).write_bytes(b"no picture")
    result = call("learning", run, "-o", tmp_path / "l.png")
    assert (result.code, result.err.count("\n")) == (2, 1)


def test_options_that_would_have_no_effect_are_refused(call: Call, run: Path, tmp_path: Path) -> None:
    for arguments, word in (
        (("generate", run, PROMPT, "--control-strength", "2"), "--control-strength has no effect"),
        (("generate", run, PROMPT, "--control-start", "0.5"), "--control-start has no effect"),
        (("masks", tmp_path, "--model", "embedded", "--weights", "x"), "--weights has no effect"),
        (
            ("mesh", tmp_path, "--mask", "m.png", "--background", "judge", "-o", tmp_path / "a.glb"),
            "--background judge",
        ),
    ):
        result = call(*arguments)
        assert (result.code, word in result.err) == (2, True), result


def test_closed_streams_end_no_command(tmp_path: Path) -> None:
    command = f"{sys.executable} -m magictailor"
    assert subprocess.run(f"{command} --version <&- >&-", shell=True, check=False).returncode == 0
    assert subprocess.run(f"{command} pair /nowhere 2>&-", shell=True, check=False).returncode == 2


def test_a_library_that_finds_no_memory_is_no_bug() -> None:
    code, line = ending(ImportError("libtorch_cpu.so: failed to map segment from shared object"))
    assert (code, line.partition(";")[0]) == (FAILED, "out of memory")


def test_masks_are_found_by_name_in_a_folder_of_any_size(tmp_path: Path) -> None:
    for name in ("a.png", "a.b.png", "ab.png", "a.JPG", "a.txt", ".a.png"):
        (tmp_path / name).touch()
    assert [file.name for file in files_of_stem(tmp_path, "a")] == ["a.JPG", "a.png"]
    assert [file.name for file in files_of_stem(tmp_path, "a.b")] == ["a.b.png"]
    assert files_of_stem(tmp_path / "none", "a") == []
