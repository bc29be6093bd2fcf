"""Attachments from the command line and the Python object, on a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import controlnets
from magictailor import load
from magictailor.attachments import FromImage
from tiny import MAPS, PROMPT, SIZE, Call, opened, pair, recipe, train


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("magictailor.backbones.stable_diffusion.MAP_SIDE", MAPS)
        steps = ("phases.0.steps=1", "phases.1.steps=1")
        return train(pair(), tmp_path_factory.mktemp("runs") / "run", model=str(tiny_folder), recipe=recipe(*steps))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture(scope="module")
def controlnet(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return controlnets.save("sd1", opened(tiny_folder), tmp_path_factory.mktemp("control"))


def test_the_record_is_in_the_file(run: Path, picture: Path, controlnet: Path, tmp_path: Path, call: Call) -> None:
    options = ["--image", picture, "--strength", 0.7, "--control", f"canny={picture}", "--control-model", controlnet]
    result = call("generate", run, PROMPT, "--output", tmp_path / "out", "--number", 1, *options, "--control-end", 0.5)
    assert result.code == 0, result
    (made,) = (tmp_path / "out").glob("person*.png")
    record = json.loads(Image.open(made).info["attached"])  # type: ignore[attr-defined]
    assert record["image"]["strength"] == 0.7
    assert (record["control"]["kind"], record["control"]["end"]) == ("canny", 0.5)


def test_without_attachments_a_run_generates_what_it_did_before(run: Path, picture: Path) -> None:
    loaded = load(run)
    (before,) = loaded.generate(PROMPT)
    (attached,) = loaded.generate(PROMPT, attachments=[FromImage(picture)])
    (after,) = loaded.generate(PROMPT)
    assert before.image.tobytes() == after.image.tobytes() != attached.image.tobytes()
    assert before.record == after.record
    assert "attached" not in before.record.metadata()
    assert before.record != attached.record


def test_bad_options_are_one_line(run: Path, picture: Path, controlnet: Path, tmp_path: Path, call: Call) -> None:
    before = sorted(tmp_path.rglob("*"))
    for options, words in (
        (("--strength", 0.5), "--strength has no effect without a picture"),
        (("--region", picture), "--region has no effect without a picture"),
        (("--image", picture, "--strength", 2), "--strength 2.0: out of range"),
        (("--image", tmp_path / "none.png"), "none.png"),
        (("--control", picture), "not KIND=FILE"),
        (("--control", f"edges={picture}"), "--control edges: unknown"),
        (("--control-model", controlnet), "--control-model has no effect"),
        (("--style-layers", "all"), "--style-layers has no effect"),
        (("--style-checkout", tmp_path), "--style-checkout has no effect without --style"),
        (("--style", picture, "--style-checkout", tmp_path, "--style-layers", "all"), "--style-layers has no effect"),
        (("--style", picture, "--style-checkout", tmp_path), "--style-checkout CSGO is for SDXL, not for embedded"),
        (("--control", f"canny={picture}", "--control-model", tmp_path), "config.json"),
        (("--control", f"canny={picture}", "--control-model", controlnet, "--control-start", 1), "--control-start"),
    ):
        result = call("generate", run, PROMPT, "--output", tmp_path / "out", *options)
        assert (result.code, words in result.err, result.err.count("\n")) == (2, True, 1), result
    assert sorted(tmp_path.rglob("*")) == before
