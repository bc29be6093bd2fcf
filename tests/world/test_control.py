"""Training of the ControlNet: it begins as nothing, resumes exactly, and pipelines load it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from magictailor.attachments import Control
from magictailor.attachments.lines import canny
from magictailor.attachments.sampling import load_attachments
from magictailor.backbones import load_backbone
from magictailor.common.errors import InputError
from magictailor.common.events import Event, Progress
from magictailor.common.files import write_json
from magictailor.common.pictures import save_png
from magictailor.common.tensors import read_tensors
from magictailor.world.render import render
from magictailor.world.scene import random_scene
from magictailor.world.training.control import Controlled, ControlTraining, new_controlnet, train_control
from magictailor.world.training.line_maps import as_maps, varied

TINY = ControlTraining(pictures=16, captions=2, held_out=8, chunk=16, batch=2, steps=3, samples=0, save_seconds=1e-3)
WEIGHTS = "diffusion_pytorch_model.safetensors"


class _Stop(Exception):
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("control") / "whole"
    train_control(folder, TINY, workers=1)
    return folder


def test_an_interrupted_training_gives_the_same_network(whole: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.task == "control" and event.done == 2:
            raise _Stop

    with pytest.raises(_Stop):
        train_control(tmp_path / "parts", TINY, workers=1, listen=stop)
    record = train_control(tmp_path / "parts", TINY, workers=1)
    assert record["steps"] == 3
    first, second = (read_tensors(folder / "control" / WEIGHTS) for folder in (whole, tmp_path / "parts"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(value.any() for name, value in first.items() if "controlnet_down_blocks" in name)
    assert sum(value.nbytes for value in first.values()) < 12e6
    with pytest.raises(InputError, match="batch differ"):
        train_control(tmp_path / "parts", TINY.model_copy(update={"batch": 4}), workers=1)


def test_it_fits_the_base_that_it_was_trained_for(whole: Path, tmp_path: Path) -> None:
    base = load_backbone("embedded", device="cpu")
    from PIL import Image

    save_png(Image.fromarray(render(random_scene(3)).image), tmp_path / "picture.png")
    control = Control("lines", tmp_path / "picture.png", model=str(whole / "control"))
    (loaded,) = load_attachments(base, [control], 4)
    assert loaded.record()["kind"] == "lines"
    write_json(whole / "control" / "training.json", {"base": "another"})
    with pytest.raises(InputError, match="another embedded base"):
        load_attachments(base, [control], 4)


def test_a_new_controlnet_changes_nothing() -> None:
    unet = load_backbone("embedded", device="cpu").networks["unet"]
    controlled = Controlled(unet, new_controlnet(unet).eval())
    random = torch.Generator().manual_seed(0)
    noisy, text = torch.randn(2, 16, 16, 16, generator=random), torch.randn(2, 77, 160, generator=random)
    controlled.lines = torch.rand(2, 3, 128, 128, generator=random)
    times = torch.tensor([10, 500])
    with torch.no_grad():
        torch.testing.assert_close(controlled(noisy, times, text, False)[0], unet(noisy, times, text).sample)


def test_drawings_are_whole_or_of_the_subject_alone_or_have_gaps() -> None:
    image = render(random_scene(0)).image
    near = np.zeros((128, 128), bool)
    near[40:, 30:90] = True
    random = np.random.default_rng(0)
    drawings = [varied(image, near, random) for _ in range(40)]
    outside = [int((drawing[~near] > 0).sum()) for drawing in drawings]
    assert 10 < sum(count == 0 for count in outside) < 30  # about half
    assert len({drawing.tobytes() for drawing in drawings}) > 6
    maps = as_maps([canny(image)])
    assert maps.shape == (1, 3, 128, 128)
    assert maps.unique().tolist() == [0, 1]
