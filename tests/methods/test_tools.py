"""Merging, transfer, the learning process, studies: what they do, and one line where they cannot."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from magictailor import TransferOptions, load
from magictailor.common.errors import InputError
from magictailor.common.tensors import read_tensors
from magictailor.data import Pair
from magictailor.exports import export
from magictailor.exports.merging import _own_features, merge_runs
from magictailor.generation.loading import load_trained
from magictailor.generation.protocol import PROMPTS
from magictailor.generation.studies import PROTOCOL, STUDIES, study_prompts
from magictailor.methods import CATALOGUE, METHODS
from magictailor.methods.ablations import ABLATIONS
from magictailor.training.learning import learning_process
from magictailor.training.run_folder import WEIGHTS_FILE, WORDS_FILE, read_run
from tiny import DEFAULTS, SIZE, Call, drawn, opened, pair, short, train


@pytest.fixture(scope="module")
def base(tiny_folder: Path) -> str:
    return str(tiny_folder)


@pytest.fixture(scope="module")
def custom(base: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of Custom Diffusion, one sample each, and a third of both."""
    folder = tmp_path_factory.mktemp("custom")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAGICTAILOR_CACHE", str(folder / "cache"))
        both = pair((2, 2))
        alone = [Pair(s.label, (s,)) for s in both.samples]
        recipe = short("custom-diffusion", "data.batch=2")
        return [train(p, folder / str(i), model=base, recipe=recipe) for i, p in enumerate([*alone, both])]


def test_merged_runs_keep_both_runs_values(custom: list[Path], tmp_path: Path) -> None:
    merged = merge_runs(custom[:2], tmp_path / "merged")
    weights, words = read_tensors(merged / WEIGHTS_FILE), read_tensors(merged / WORDS_FILE)
    assert set(words) == {"words.<person>.clip", "words.<hair>.clip"}
    for run in custom[:2]:
        features = _own_features(load_trained(run)[0], read_run(run))
        assert len(features) == 2, run  # the pseudo-word and its label
        own = read_tensors(run / WEIGHTS_FILE)
        assert set(own) == set(weights)
        for name, weight in own.items():
            torch.testing.assert_close(weights[name] @ features.T, weight @ features.T, rtol=1e-3, atol=1e-4)
    (generated,) = load(merged).generate("<person> with <hair>")
    assert generated.record.method == "custom-diffusion"


def test_what_cannot_be_merged_is_one_line(custom: list[Path], base: str, tmp_path: Path) -> None:
    lora = train(pair((1,)), tmp_path / "lora", model=base, recipe=short("magictailor"))
    for runs, words in (
        ([custom[0]], "at least two"),
        ([custom[0], custom[0]], "two runs have this pseudo-word"),
        ([custom[0], custom[2]], "2 samples"),
        ([custom[0], lora], "only runs of method custom-diffusion"),
        ([custom[0], tmp_path], "not a run"),
    ):
        with pytest.raises(InputError, match=words):
            merge_runs(runs, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.fixture(scope="module")
def clic(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = short("clic", "sampling.steps=4", "sampling.preview_every=1")
    return train(pair(), tmp_path_factory.mktemp("runs") / "clic", model=base, recipe=recipe)


@pytest.fixture
def target(tmp_path: Path) -> tuple[Path, Path]:
    """An image and a region of it."""
    pixels = np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[4:12, 2:14] = 255
    Image.fromarray(pixels).save(tmp_path / "image.png")
    Image.fromarray(mask).save(tmp_path / "region.png")
    return tmp_path / "image.png", tmp_path / "region.png"


def test_a_transfer_changes_the_region_and_nothing_else(clic: Path, target: tuple[Path, Path]) -> None:
    run = load(clic)
    first, second = run.transfer(*target, number=2)
    before, mask = np.asarray(Image.open(target[0]), int), np.asarray(Image.open(target[1])) > 0
    for image in (first, second):
        after = np.asarray(image, int)
        assert np.abs(after - before)[~mask].max() <= 1
        assert np.abs(after - before)[mask].mean() > 3
    assert not np.array_equal(first, second)
    (again,) = run.transfer(*target)
    assert np.array_equal(again, first)
    (pulled,) = run.transfer(*target, options=TransferOptions(strength=5))
    (blended,) = run.transfer(*target, options=TransferOptions(strength=0))
    assert not np.array_equal(pulled, blended)


def test_bad_transfers_are_one_line(clic: Path, target: tuple[Path, Path], tmp_path: Path, call: Call) -> None:
    image, region = target
    Image.new("L", (SIZE, SIZE)).save(tmp_path / "black.png")
    Image.new("L", (SIZE + 1, SIZE), 255).save(tmp_path / "wide.png")
    before = sorted(tmp_path.rglob("*"))
    for arguments, words in (
        ((clic, image, tmp_path / "black.png"), "no white"),
        ((clic, image, tmp_path / "wide.png"), "the same size"),
        ((clic, image, tmp_path / "none.png"), "none.png"),
        ((tmp_path, image, region), "not a run"),
        ((clic, image, region, "--word", "<hat>"), "--word <hat>"),
        ((clic, image, region, "--prompt", "a photo of <person>"), "--prompt 'a photo of <person>' lacks <hair>"),
        ((clic, image, region, "--start", "1"), "--start"),
        ((clic, image, region, "--number", "0"), "--number"),
        ((clic, image, region, "--steps", "0"), "--steps"),
        ((clic, image, region, "--seed", "-1"), "--seed -1"),
        ((clic, image, region, "--strength", "nan"), "--strength"),
        ((clic, image, region, "--prompt", "a <hat> and <hair>"), "--prompt <hat>"),
        ((clic, image, region, "--prompt", "a " * 80 + "<hair>"), "--prompt <hair> comes after"),
    ):
        result = call("transfer", *arguments, "--output", tmp_path / "out")
        assert (result.code, words in result.err, result.err.count("\n")) == (2, True, 1), result
    assert sorted(tmp_path.rglob("*")) == before
    assert call("transfer", clic, image, region, "--output", tmp_path / "out", "--number", 1).code == 0
    assert (tmp_path / "out" / "0.png").exists()


def test_the_learning_process_is_an_image_of_steps_and_losses(clic: Path, tmp_path: Path, call: Call) -> None:
    made = learning_process([clic, clic])
    one = learning_process([clic])
    assert (made.width, made.height) == (one.width, 2 * one.height)
    colours = {tuple(c) for c in np.asarray(one).reshape(-1, 3)[::7]}
    assert (31, 119, 180) in colours  # the concept's curve
    assert (214, 39, 40) in colours  # the component's
    assert call("learning", clic, "--output", tmp_path / "learning.png").code == 0
    assert Image.open(tmp_path / "learning.png").size == one.size
    result = call("learning", tmp_path, "--output", tmp_path / "other.png")
    assert (result.code, "not a run" in result.err) == (2, True)


def test_own_weights_are_exported_as_a_whole_model_alone(clic: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="merged or checkpoint"):
        export(clic, tmp_path / "out", "kohya")
    made = export(clic, tmp_path / "merged", "merged")
    pipeline = opened(made)
    name = "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    tuned = read_tensors(clic / WEIGHTS_FILE)[f"denoiser.{name}"]
    assert torch.equal(pipeline.unet.get_parameter(name), tuned)
    assert drawn(pipeline).shape[-1] == 3
    assert "<hair> style" in (made / "README.md").read_text()


def test_the_ablations_change_what_they_say() -> None:
    whole = METHODS["magictailor"](DEFAULTS).dump()
    changed = {}
    for name in ABLATIONS:
        made = METHODS[name](DEFAULTS).dump()
        assert made.pop("method") == name
        fields = {k for k in made if made[k] != whole[k]} - {"phases"}
        for phase, own in zip(made["phases"], whole["phases"], strict=True):
            fields |= {k for k in phase if phase[k] != own[k]}
        changed[name] = fields
    assert all(changed.values())
    assert changed["without-both"] == {"degradation", "reduce", "preserve"}
    assert changed["references-1"] == {"data"}
    assert changed["no-warm-up"] == {"reduce", "preserve"}
    assert {frozenset(changed[n]) for n in ("frozen", "last-step", "decay-0.5", "pres-0.4")} == {
        frozenset({"preserve"})
    }
    assert {frozenset(changed[n]) for n in ("gamma-8", "mask-out", "fixed-0.6", "ascending")} == {
        frozenset({"degradation"})
    }


def test_the_catalogue_has_every_row_of_the_papers_tables(call: Call) -> None:
    published = [n.published for group in CATALOGUE.values() for n in group.values() if n.published]
    assert len(published) == 6 + 3 + 9 + 4 + 1  # tables 1, 3, 5, 6, 7
    assert len(set(published)) == len(published)
    result = call("recipes")
    assert result.code == 0
    assert all(name in result.out for name in [*METHODS, *STUDIES])


def test_studies_are_prompts_with_the_runs_words(clic: Path, tmp_path: Path, call: Call) -> None:
    assert len(PROTOCOL) == len(set(PROTOCOL)) == 20
    assert set(PROTOCOL) == set(PROMPTS.values())
    assert study_prompts("linking-words", ["<a>", "<b>", "<c>"])[1] == "a photo of <a> and <b> and <c>"
    result = call("generate", clic, "--study", "decoupled", "--number", 1, "--output", tmp_path / "out", "--steps", 3)
    assert result.code == 0, result
    names = {p.name for p in (tmp_path / "out").glob("*.png")}
    assert names == {"a-photo-of-person-0.png", "a-photo-of-hair-0.png", "sheet.png"}
    for arguments, words in (((), "no prompt"), (("--study", "protocoll"), "nearest is protocol")):
        result = call("generate", clic, *arguments, "--output", tmp_path / "none")
        assert (result.code, words in result.err) == (2, True), result
    assert study_prompts("decoupled", ["<a>", "<b>", "<c>"]) == [f"a photo of <{n}>" for n in "abc"]
    with pytest.raises(InputError, match="study protocol: needs a component"):
        study_prompts("protocol", ["<a>"])
