"""The base's training: exact resuming, the bank's renders, normalised latents, and a base that loads."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import magictailor.world.training.train as train_module
from magictailor.backbones import load_backbone
from magictailor.common.errors import InputError
from magictailor.common.tensors import read_tensors
from magictailor.weights import BASES, EMBEDDED
from magictailor.world.captions import caption, caption_rng
from magictailor.world.embedded import load_autoencoder, new_autoencoder, new_scheduler
from magictailor.world.render import render
from magictailor.world.scene import random_scene
from magictailor.world.training import WorldTraining, train_world
from magictailor.world.training.autoencoder import encode, held_out_psnr, initialise, normalise, round_trip
from magictailor.world.training.bank import loss_weights
from magictailor.world.training.denoiser import ARCHITECTURES, stratified_times, time_density
from magictailor.world.training.optimizers import orthogonalise
from magictailor.world.training.rendering import HELD_OUT, render_chunk, token_ids
from magictailor.world.training.state import Trainee, generator, lr_scale

TINY = {"pictures": 40, "autoencoder_pictures": 24, "chunk": 16, "held_out": 8, "captions": 2, "samples": 1}
TINY |= {"autoencoder_steps": 2, "autoencoder_batch": 4, "steps": 2, "batch": 4}


def trained(path: Path, steps: int, total: int = 6) -> Trainee:
    torch.manual_seed(0)
    layer = nn.Linear(20, 20)
    trainee = Trainee([layer], path, 1e-2, 0.9, lambda step: step / total)
    while trainee.step < steps:
        x = torch.randn(4, 20, generator=generator(0, trainee.step))
        trainee.update((layer(x) - x).square().mean())
    trainee.save()
    return trainee


def test_an_interrupted_training_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    trained(tmp_path / "whole", 6)
    for steps in (2, 3, 6):
        trained(tmp_path / "parts", steps)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()


def test_a_loss_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    trainee = trained(tmp_path / "a", 2)
    assert trainee.check(torch.tensor(0.5)) == 0.5
    with pytest.raises(FloatingPointError, match="step 2"):
        trainee.check(torch.tensor(float("nan")))


def test_the_learning_rate_warms_up_stays_and_decays() -> None:
    assert lr_scale(0, 0.0) == pytest.approx(1 / 200)
    assert lr_scale(300, 0.3) == lr_scale(3000, 0.7) == 1.0
    assert lr_scale(900, 0.875) == pytest.approx(0.5)
    assert lr_scale(999, 1.0) == 0.0


def test_muons_steps_have_singular_values_near_one() -> None:
    matrices = torch.randn(2, 24, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_times_are_one_in_each_part_of_the_density() -> None:
    density = time_density(new_scheduler())
    assert density.sum().item() == pytest.approx(1, abs=1e-5)
    assert density[-1] == density.max()  # all times with much noise are alike, those with little are rarer
    assert density[0] < 0.1 * density[-1]
    even = torch.full((1000,), 1e-3)
    times = stratified_times(10, even, torch.Generator().manual_seed(0))
    assert sorted((times // 100).tolist()) == list(range(10))


def test_the_bank_holds_the_scenes_of_its_seeds() -> None:
    chunk = render_chunk(40, 2, 3)
    for i in range(2):
        rendering = render(random_scene(40 + i))
        assert (chunk.images[i] == rendering.image).all()
        assert chunk.inside[i].mean() == pytest.approx(rendering.inside.mean(), abs=0.6)
    assert chunk.tokens.shape == (2, 3, 77)
    words = [caption(random_scene(40), caption_rng(40, d)) for d in range(3)]
    assert (chunk.tokens[0] == token_ids(words)).all()


def test_loss_weights_follow_places_and_are_never_zero() -> None:
    inside = torch.zeros(1, 16, 16, dtype=torch.uint8)
    inside[0, 8, 8] = 255
    weights = loss_weights(inside)[0, 0].float()
    assert weights.min() > 0
    assert weights[8, 8] == weights[6, 10] == weights.max()  # within two latents of a subject
    assert weights[8, 11] == weights.min()


@torch.no_grad()
def test_normalising_changes_latents_and_no_decoded_image() -> None:
    torch.manual_seed(0)
    autoencoder = new_autoencoder().eval()
    initialise(autoencoder)
    images = torch.from_numpy(np.stack([render(random_scene(s)).image for s in range(6)]))
    before = round_trip(autoencoder, images)
    latents = encode(autoencoder, images)
    normalise(autoencoder, latents.mean((0, 2, 3)), latents.std((0, 2, 3)))
    after = encode(autoencoder, images)
    assert after.mean((0, 2, 3)).abs().max() < 0.05
    assert (after.std((0, 2, 3)) - 1).abs().max() < 0.05
    assert (round_trip(autoencoder, images) - before).abs().max() < 1e-3


def test_the_shipped_autoencoder_reconstructs_held_out_renders() -> None:
    """The record has the mean over 512 renders; here are 24."""
    images = torch.from_numpy(np.stack([render(random_scene(HELD_OUT + 600 + s)).image for s in range(24)]))
    autoencoder = load_autoencoder()
    assert held_out_psnr(autoencoder, images) > 30
    latents = encode(autoencoder, images)
    assert latents.std().item() == pytest.approx(1, abs=0.15)


def test_a_whole_training_ends_in_a_base_that_the_backbone_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "_workers", lambda device: 1)
    recipe = WorldTraining.model_validate(TINY)
    base = train_world(tmp_path / "run", recipe, "cpu")
    backbone = load_backbone(str(base))
    assert backbone.latent_shape(128, 128) == (16, 16, 16)
    assert (tmp_path / "run" / "samples.png").exists()
    state = {k: v for f in sorted((base.parent / "state").glob("*.safetensors")) for k, v in read_tensors(f).items()}
    assert len(state) > 100
    with pytest.raises(InputError, match="holds another training"):
        train_world(tmp_path / "run", replace_seed(recipe), "cpu")
    more = WorldTraining.model_validate({**TINY, "start": str(tmp_path / "run"), "autoencoder_steps": 0, "steps": 1})
    again = train_world(tmp_path / "more", more, "cpu")
    kept, new = (read_tensors(b / "vae" / "diffusion_pytorch_model.safetensors") for b in (base, again))
    assert all(torch.equal(kept[k], new[k]) for k in kept)  # the autoencoder of the start stays as it is
    shutil.rmtree(tmp_path / "run")


def test_two_trainings_share_renders_that_one_of_them_makes(tmp_path: Path) -> None:
    recipe = WorldTraining.model_validate({**TINY, "start": "embedded", "autoencoder_steps": 0, "first": 1000})
    renders = tmp_path / "renders"
    first = train_world(tmp_path / "first", recipe, "cpu", renders=renders, workers=1)
    second = train_world(tmp_path / "second", recipe, "cpu", renders=renders, workers=0)
    a, b = ({f.name: f.read_bytes() for f in base.rglob("*.safetensors")} for base in (first, second))
    assert a == b
    assert sorted(p.name for p in renders.glob("0*.npz"))[0] == "0000001000-16.npz"
    assert not (tmp_path / "first" / "bank").exists()


def replace_seed(recipe: WorldTraining) -> WorldTraining:
    return recipe.model_copy(update={"seed": 5})


def test_a_missing_start_or_device_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for values, device in (({"start": str(tmp_path / "none")}, "cpu"), ({}, "cuda:9")):
        with pytest.raises(InputError):
            train_world(tmp_path / "new", WorldTraining.model_validate({**TINY, **values}), device)
    assert not (tmp_path / "new").exists()


def test_the_shipped_weights_are_small_and_bases_have_their_records() -> None:
    size = sum(p.stat().st_size for p in EMBEDDED.parent.rglob("*.safetensors"))
    assert size <= 60 * 2**20  # two bases, judge, ControlNet and IP-Adapter
    assert sum(p.stat().st_size for p in BASES["embedded-dit"].rglob("*.safetensors")) <= 18e6
    assert all((base / "training.json").is_file() for base in BASES.values())


def test_a_whole_training_of_the_transformer_ends_in_a_base_with_words_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts from the shipped autoencoder and text encoder, and what it trained on is what its pipeline predicts."""
    monkeypatch.setattr(train_module, "_workers", lambda device: 1)
    kept = {"start": "embedded", "autoencoder_steps": 0, "architecture": "dit"}
    base = train_world(tmp_path / "run", WorldTraining.model_validate({**TINY, **kept}), "cpu")
    backbone = load_backbone(str(base), device="cpu", precision="fp32")
    assert backbone.family == "embedded-dit"
    assert backbone.trainable == {"lora", "pseudo-words"}
    parameters = sum(p.numel() for n, m in backbone.networks.items() if n != "vae" for p in m.parameters())
    assert 2 * parameters < 18e6  # bytes in half precision
    names = ("transformer", "text_encoder", "text_encoder_2")
    task: Any = ARCHITECTURES["dit"].denoising({name: backbone.networks[name] for name in names})
    text = "a photo of a dog"
    tokens = torch.from_numpy(token_ids([text])).long()
    sequence, pooled = task._encode(tokens[:, :48])
    condition = backbone.encode_text([text])
    torch.testing.assert_close(sequence, condition.tensors["sequence"])
    torch.testing.assert_close(pooled, condition.tensors["pooled"])
