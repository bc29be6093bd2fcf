"""The real model classes on tiny random weights: sizes and ranges, and SAM's input as its own processor makes it."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
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
from magictailor.segmentation.points import Click, SamPoints

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


VERSIONS = {"sam": "sam", "sam2": "sam2", "sam3": "sam3_points"}


@pytest.mark.parametrize("version", VERSIONS)
def test_clicks_on_the_real_classes(version: str, weights: Callable[[str], str], image: Image.Image) -> None:
    """A mask of the image's size, which depends on where the clicks are and on what they say."""
    model = SamPoints(version, weights(VERSIONS[version]))
    there, elsewhere = Click(60, 10), Click(10, 40)
    masks = [
        model(image, clicks)
        for clicks in ([there], [elsewhere], [there, elsewhere], [there, replace(elsewhere, inside=False)])
    ]
    for mask in masks:
        assert mask.shape == (HEIGHT, WIDTH)
        assert 0 <= mask.min() <= mask.max() <= 1
    assert len({mask.tobytes() for mask in masks}) == 4
    assert np.array_equal(model(image, [there]), masks[0])
    with pytest.raises(InputError, match="outside the image"):
        model(image, [Click(WIDTH, 3)])


def test_sams_clicks_equal_those_of_its_own_processor(weights: Callable[[str], str], image: Image.Image) -> None:
    own = SamProcessor(SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}))
    model = SamPoints("sam", weights("sam"))
    inputs = own(image, input_points=[[[60.0, 10.0], [10.0, 40.0]]], input_labels=[[1, 0]], return_tensors="pt")
    with torch.no_grad():
        out = model.network(**{k: v for k, v in inputs.items() if "sizes" not in k}, multimask_output=False)
    (theirs,) = own.post_process_masks(
        out.pred_masks, inputs.original_sizes, inputs.reshaped_input_sizes, binarize=False
    )
    ours = model(image, [Click(60, 10), Click(10, 40, inside=False)])
    np.testing.assert_allclose(ours, torch.sigmoid(theirs[0, 0]).numpy(), atol=1e-4)


@pytest.mark.parametrize("version", ["sam2", "sam3"])
def test_clicks_on_a_stretched_photo_are_stretched_with_it(version: str, weights: Callable[[str], str]) -> None:
    """As the network is called by hand on a square image, whose pixels are its own: x is the first number."""
    model = SamPoints(version, weights(VERSIONS[version]))
    side = model.network.config.prompt_encoder_config.image_size
    few = np.random.default_rng(1).integers(0, 255, (side // 14, side // 14, 3), np.uint8)
    square = Image.fromarray(few).resize((side, side), Image.Resampling.BICUBIC)
    pixels = model.to_input(square, side).pixels
    with torch.no_grad():
        out = model.network(
            pixel_values=pixels, input_points=torch.tensor([[[[40.0, 8.0]]]]), input_labels=torch.tensor([[[1]]]),
            multimask_output=False,
        )  # fmt: skip
    logits = torch.nn.functional.interpolate(out.pred_masks[0].float(), (side, side), mode="bilinear")[0, 0]
    np.testing.assert_allclose(model(square, [Click(40, 8)]), torch.sigmoid(logits).numpy(), atol=1e-4)
    wide = square.resize((2 * side, side), Image.Resampling.NEAREST)
    expected, stretched = model(square, [Click(40.25, 8)]), model(wide, [Click(80.5, 8)])[:, ::2]
    assert np.corrcoef(stretched.ravel(), expected.ravel())[0, 1] > 0.99


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
        load_segmenter(model, weights=str(tmp_path), detector=str(tmp_path) if model.startswith("dino") else None)
    assert "\n" not in str(caught.value)
