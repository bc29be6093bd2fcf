"""The real model classes on tiny random weights: sizes and ranges, and SAM's input as its own processor makes it."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SamProcessor
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil
from typer.testing import CliRunner

from magictailor.cli import app
from magictailor.common.errors import InputError
from magictailor.data import read_pair
from magictailor.segmentation import Segmenter, load_segmenter
from magictailor.segmentation.grounded import pad

WIDTH, HEIGHT = 70, 50


def _tiny() -> ModuleType:
    """The module next to this one: pytest's import mode puts no folder of tests on the path."""
    spec = importlib.util.spec_from_file_location("tiny_models", Path(__file__).with_name("tiny_models.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    folder, tiny = tmp_path_factory.mktemp("weights"), _tiny()

    def build(name: str) -> str:
        path = folder / name
        return str(path if path.exists() else getattr(tiny, name)(path))

    return build


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))


def segmenter(model: str, weights: Callable[[str], str]) -> Segmenter:
    own = {"clipseg": "clipseg", "dino+sam": "sam", "dino+sam2": "sam2", "sam3": "sam3"}[model]
    detector = weights("grounding_dino") if "dino" in model else None
    return load_segmenter(model, weights=weights(own), detector=detector)


@pytest.mark.parametrize("model", ["clipseg", "dino+sam", "dino+sam2", "sam3"])
def test_regions_lie_in_the_image(model: str, weights: Callable[[str], str], image: Image.Image) -> None:
    found = segmenter(model, weights).find(image, Path("a.png"), ["cat", "hair"])
    assert set(found) == {"cat", "hair"}
    for regions in found.values():
        assert regions
        for region in regions:
            assert 0 <= region.score <= 1
            assert region.mask.shape == (HEIGHT, WIDTH)
            assert 0 <= region.mask.min() <= region.mask.max() <= 1
            assert -1 <= region.box[0] <= region.box[2] <= WIDTH + 1
            assert -1 <= region.box[1] <= region.box[3] <= HEIGHT + 1


@pytest.mark.parametrize("size", [(70, 50), (40, 90)])
def test_sams_input_equals_that_of_its_own_processor(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
    image = Image.fromarray(pixels)
    own = SamProcessor(SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}))
    boxes = [[10.0, 5.0, 30.0, 40.0]]
    inputs = own(image, input_boxes=[boxes], return_tensors="pt")
    square = pad(image, 64)
    torch.testing.assert_close(square.pixels, inputs.pixel_values, rtol=0, atol=1e-4)
    scaled = [v * s for v, s in zip(boxes[0], [square.width / size[0], square.height / size[1]] * 2, strict=True)]
    assert inputs.input_boxes[0, 0].tolist() == pytest.approx(scaled)
    logits = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    (theirs,) = own.post_process_masks([logits], inputs.original_sizes, inputs.reshaped_input_sizes)
    assert np.array_equal(square.to_image(logits[0], size) > 0, theirs[0].numpy())


def test_a_pair_without_masks_gets_them_by_the_command(weights: Callable[[str], str], tmp_path: Path) -> None:
    """Two images of the concept without a component: with random weights a cat may lie wholly in its hair."""
    for name in ("0_cat_1", "0_cat_2"):
        pixels = np.random.default_rng(int(name[-1])).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    command = ["masks", str(tmp_path), "--model", "sam3", "--weights", weights("sam3"), "--threshold", "0.1"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "0_cat_1.png: cat," in result.output
    assert [r.mask.size for r in read_pair(tmp_path).concept.references] == [(WIDTH, HEIGHT)] * 2


@pytest.mark.parametrize("model", ["clipseg", "dino+sam2", "sam3"])
def test_weights_that_are_not_there_are_one_line_with_the_fix(model: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no .*; name a folder that holds it") as caught:
        load_segmenter(model, weights=str(tmp_path), detector=str(tmp_path))
    assert "\n" not in str(caught.value)
