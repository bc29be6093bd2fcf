"""The standard metrics: real classes with tiny random weights, values by hand, segmentation with known answers."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from magictailor.common.errors import InputError
from magictailor.data import Pair, Sample
from magictailor.data.masks import ReferenceImage
from magictailor.evaluate.metrics.cutouts import Cutter, cut_out, find_masks
from magictailor.evaluate.metrics.embedders import Clip, Dino, Embedder, embed_images
from magictailor.evaluate.metrics.scorer import ScoredImage, Target
from magictailor.evaluate.metrics.similarity import (
    ClipQuality,
    ClipText,
    SubjectSimilarity,
    subject_similarity,
    with_labels,
)
from magictailor.segmentation import Segmenter
from magictailor.segmentation.regions import Region, bounding_box
from magictailor.world.tokenizer import build_tokenizer

RED, BLUE = (200, 30, 30), (30, 30, 200)
SMALL = {"height": 32, "width": 32}
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, tokenizer = tmp_path_factory.mktemp("clip"), build_tokenizer()
    torch.manual_seed(0)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = CLIPTextConfig(vocab_size=len(tokenizer), projection_dim=8, max_position_embeddings=77, **SIZES, **ends)
    vision = CLIPVisionConfig(image_size=32, patch_size=8, projection_dim=8, **SIZES)
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)).save_pretrained(
        folder
    )
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SMALL).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def dinos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    one, two = tmp_path_factory.mktemp("dino"), tmp_path_factory.mktemp("dinov2")
    sizes = {k: v for k, v in SIZES.items() if k != "intermediate_size"}
    ViTModel(ViTConfig(image_size=32, patch_size=8, **SIZES), add_pooling_layer=False).save_pretrained(one)
    ViTImageProcessor(size=SMALL).save_pretrained(one)
    Dinov2Model(Dinov2Config(image_size=32, patch_size=8, **sizes)).save_pretrained(two)
    BitImageProcessor(size={"shortest_edge": 32}, crop_size=SMALL).save_pretrained(two)
    return [str(one), str(two)]


def noise(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8))


def test_vectors_are_the_models_own(clip: str, dinos: list[str]) -> None:
    """Compared with the classes of transformers, called by hand."""
    images = [noise(0), noise(1)]
    model, processor = CLIPModel.from_pretrained(clip).eval(), CLIPImageProcessor.from_pretrained(clip)
    with torch.no_grad():
        out = model(
            **processor(images=images, return_tensors="pt"),
            **build_tokenizer()(["a cat", "a hat"], padding=True, return_tensors="pt"),
        )
    embedder = Clip(clip)
    assert torch.allclose(embedder.images(images), out.image_embeds, atol=1e-5)
    assert torch.allclose(embedder.texts(["a cat", "a hat"]), out.text_embeds, atol=1e-5)
    for weights in dinos:
        vectors = Dino(weights).images(images)
        assert vectors.shape == (2, 16)
        assert torch.allclose(vectors.norm(dim=-1), torch.ones(2), atol=1e-5)
        assert not torch.allclose(vectors[0], vectors[1])
    with pytest.raises(InputError, match="hf download nobody/here"):
        Clip("nobody/here").prepare()


class Colors:
    """The embedding is white minus the mean colour, so that cosines are known."""

    model = "mean colour"

    def __init__(self) -> None:
        self.computed = 0

    def prepare(self) -> None: ...

    def images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        self.computed += len(images)
        means = torch.tensor(np.stack([255.0 - np.asarray(i, np.float64).mean((0, 1)) for i in images]))
        return means / means.norm(dim=-1, keepdim=True)


class ByColor(Segmenter):
    """Finds the red tower with its roof, and the blue roof."""

    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        pixels = np.asarray(image).astype(int)
        blue, red = (np.abs(pixels - c).sum(-1) < 9 for c in (BLUE, RED))
        masks = {"tower": blue | red, "roof": blue}
        return {
            w: [Region(1.0, bounding_box(masks[w].astype(float)), masks[w].astype(float))] if masks[w].any() else []
            for w in words
        }


def scene(roof: bool = True, tower: bool = True, background: int = 90) -> Image.Image:
    pixels = np.full((40, 40, 3), background, np.uint8)
    if tower:
        pixels[15:35, 10:30] = RED
    if roof:
        pixels[5:15, 10:30] = BLUE
    return Image.fromarray(pixels)


def mask(color: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray((np.abs(np.asarray(scene()).astype(int) - color).sum(-1) == 0).astype(np.uint8) * 255)


def target(cache: Path | None = None) -> Target:
    samples = tuple(
        Sample(label, f"<{label}>", (ReferenceImage.of(Path(f"{label}.png"), scene(), mask(color)),))
        for label, color in (("tower", RED), ("roof", BLUE))
    )
    return Target(Pair("tower", samples), ("<tower>", "<roof>"), None, cache)


def test_a_subject_is_cut_out_on_white_in_a_square() -> None:
    tower, roof = find_masks(scene(), ["tower", "roof"], ByColor())
    assert (tower.sum(), roof.sum()) == (400, 200)  # the tower without its roof
    cut = cut_out(scene(), roof)
    assert cut is not None
    assert cut.size == (20, 20)
    pixels = np.asarray(cut)
    assert (pixels[5:15] == BLUE).all()
    assert (pixels[:5] == 255).all()
    assert (pixels[15:] == 255).all()
    assert cut_out(scene(), np.zeros((40, 40))) is None


def test_similarity_is_the_mean_over_subjects_and_0_for_one_not_found() -> None:
    scorer = SubjectSimilarity("clip-i", Colors(), Cutter("colour", ByColor))
    prompt = "<tower> with <roof>, on the beach"

    def scores(image: Image.Image, text: str = prompt) -> dict[str, float]:
        return {s.metric: s.value for s in scorer.score(target(), [ScoredImage(text, 0, image)])}

    assert scores(scene(background=200)) == pytest.approx({"clip-i": 1, "clip-i failed": 0})  # the background is gone
    assert scores(scene(roof=False)) == pytest.approx({"clip-i": 0.5, "clip-i failed": 0.5})
    assert scores(scene(roof=False, tower=False)) == pytest.approx({"clip-i": 0, "clip-i failed": 1})
    assert scores(scene(roof=False), "a photo of <tower>") == pytest.approx({"clip-i": 1, "clip-i failed": 0})
    distance = SubjectSimilarity("dreamsim", Colors(), Cutter("colour", ByColor), distance=True)
    (first, _) = distance.score(target(), [ScoredImage(prompt, 0, scene(roof=False))])
    assert first.value == pytest.approx(0.5)
    assert distance.higher_is_better["dreamsim"] is False
    empty = Sample("roof", "<roof>", (ReferenceImage.of(Path("r.png"), scene(), Image.new("L", (40, 40))),))
    with pytest.raises(InputError, match="roof: no photo's mask has 16 pixels"):
        Cutter("colour", ByColor).references(empty)
    references = np.array([[1.0, 0], [0, 1]])
    assert subject_similarity(np.array([0.6, 0.8]), references) == pytest.approx(0.7)


def test_text_is_the_cosine_with_labels_and_quality_a_softmax(clip: str) -> None:
    embedder, image = Clip(clip), noise()
    prompt = "<tower> with <roof>, in the snow"
    assert with_labels(prompt, target()) == "tower with roof, in the snow"
    (text,) = ClipText(embedder).score(target(), [ScoredImage(prompt, 3, image)])
    by_hand = (embedder.images([image]) @ embedder.texts(["tower with roof, in the snow"]).T).item()
    assert (text.prompt, text.seed, text.value) == (prompt, 3, pytest.approx(by_hand, abs=1e-6))
    (quality,) = ClipQuality(embedder).score(target(), [ScoredImage(prompt, 3, image)])
    logits = embedder.scale * embedder.images([image]) @ embedder.texts(["Good photo.", "Bad photo."]).T
    assert quality.value == pytest.approx(logits.softmax(-1)[0, 0].item(), abs=1e-5)


def test_images_are_cut_once_for_all_scorers() -> None:
    cutter, images = Cutter("colour", ByColor), [ScoredImage("<tower>", 0, scene())]
    first = cutter.subjects(target(), images)
    assert cutter.subjects(target(), images) is first
    assert cutter.subjects(target(), list(images)) is not first


def test_a_models_name_depends_on_its_weights_and_not_on_its_folder(clip: str, tmp_path: Path) -> None:
    shutil.copytree(clip, tmp_path / "clip")
    assert Clip(str(tmp_path / "clip")).model.split()[-1] == Clip(clip).model.split()[-1]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.safetensors").write_bytes(b"others")
    assert Clip(str(tmp_path / "other")).model.split()[-1] != Clip(clip).model.split()[-1]
    assert Clip("openai/clip").model == "openai/clip"


def test_embeddings_are_cached(tmp_path: Path) -> None:
    embedder: Embedder = Colors()
    assert isinstance(embedder, Colors)
    first = embed_images(embedder, [scene(), scene(roof=False), scene()], tmp_path)
    assert embedder.computed == 2  # the same image twice is computed once
    again = embed_images(embedder, [scene(roof=False), scene(tower=False)], tmp_path)
    assert embedder.computed == 3
    assert (first[1] == again[0]).all()
    assert (first[0] == first[2]).all()
