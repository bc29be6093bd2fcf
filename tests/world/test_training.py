"""The base's training: rates, averages, and interruption."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import nn

import magictailor.world.training.run as run_module
from magictailor.recipe import part_from
from magictailor.world.embedded import TRAIN_STEPS, WEIGHTS, load_embedded, new_scheduler
from magictailor.world.scene import random_scene
from magictailor.world.training import WorldTraining, train_world
from magictailor.world.training.bank import drawn, importance
from magictailor.world.training.denoiser import stratified_times, time_density
from magictailor.world.training.state import Trainee, generator, rate


def run(path: Path, until: int, steps: int = 12) -> Trainee:
    torch.manual_seed(0)
    network = nn.Linear(4, 4)
    trainee = Trainee([network], path, 1e-2, 0.9, steps)
    while trainee.step < until:
        x = torch.randn(8, 4, generator=generator(3, trainee.step))
        trainee.update((network(x) - x).square().mean())
    trainee.save()
    return trainee


def test_an_interrupted_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole.safetensors", 12)
    for until in (3, 7, 12):
        parts = run(tmp_path / "parts.safetensors", until)
    for a, b in zip([*whole.parameters, *whole.average], [*parts.parameters, *parts.average], strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "parts.safetensors").read_bytes()


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path: Path) -> None:
    trainee = run(tmp_path / "a.safetensors", 2)
    before = [p.clone() for p in trainee.parameters]
    with pytest.raises(FloatingPointError, match="step 2"):
        trainee.update(torch.tensor(float("nan")))
    assert all(torch.equal(a, b) for a, b in zip(before, trainee.parameters, strict=True))


def test_the_rate_warms_up_stays_and_decays() -> None:
    assert rate(0, 1000, 1.0) == pytest.approx(1 / 200)
    assert rate(300, 1000, 1.0) == rate(300, 2000, 1.0) == 1.0  # the plateau does not know the end
    assert rate(850, 1000, 1.0) == pytest.approx(0.5)
    assert rate(999, 1000, 1.0) == pytest.approx(0.02)


def test_times_are_one_in_each_part() -> None:
    even = torch.full((TRAIN_STEPS,), 1 / TRAIN_STEPS)
    times = stratified_times(10, even, torch.Generator().manual_seed(0))
    assert sorted((times * 10 // TRAIN_STEPS).tolist()) == list(range(10))
    assert times.tolist() != sorted(times.tolist())


def test_times_without_noise_are_drawn_less_often_in_the_wanted_proportion() -> None:
    scheduler = new_scheduler()
    density = time_density(scheduler)
    assert float(density.sum()) == pytest.approx(1)
    ratio = density / density[-1]
    noise = 1 - scheduler.alphas_cumprod
    assert float(ratio[20]) == pytest.approx(5 * float(noise[20]))  # 5 / (SNR + 1), below 1 there
    assert float(ratio[20]) < 0.2
    assert torch.allclose(ratio[200:], torch.ones(800))
    drawn = stratified_times(20_000, density, torch.Generator().manual_seed(0))
    share = float((drawn < 100).float().mean())
    assert share == pytest.approx(float(density[:100].sum()), abs=1e-3)


def test_things_and_what_is_near_them_count_most_wherever_their_parts_are() -> None:
    """Left and right of a thing count alike, so that no side is favoured; the mean is one."""
    pictures = np.zeros((2, 64, 64, 4), np.uint8)
    pictures[0, 20:44, 28:36, 3] = 255  # latents 5 .. 10 down, 7 and 8 across
    weights = importance(pictures, 16).float()[:, 0]
    assert float(weights.mean()) == pytest.approx(1, abs=1e-3)
    assert float(weights[0, 7, 7] / weights[1, 0, 0]) == pytest.approx(7, rel=1e-2)  # 0.5 + 3 to 0.5
    near = weights[0] > weights[1, 0, 0]
    assert near[:, 2:14].all()
    assert int(near.sum()) == 16 * 12
    assert torch.equal(near, near.flip(-1))


def test_a_picture_of_the_bank_knows_where_its_things_are() -> None:
    for seed in range(20):
        scene, picture = random_scene(seed), drawn(seed)
        assert (picture[..., 3].max() > 0) == bool(scene.things)


def test_the_whole_recipe_runs_resumes_and_leaves_a_pipeline_without_this_machines_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "HELD_OUT", 4)
    monkeypatch.setattr(run_module, "pictures_of", lambda pipeline, checks, seed=0: [Image.new("RGB", (64, 64))] * 8)
    seen: list[str] = []
    few = {"pictures": 1000, "autoencoder_steps": 1, "batch": 2, "rate": 1e-6, "autoencoder_rate": 1e-6}
    for steps in (1, 2):
        recipe = part_from(WorldTraining, {**few, "steps": steps, "start": "embedded"})
        made = train_world(tmp_path / "base", recipe, "cpu", lambda phase, *_: seen.append(phase))
    assert (seen.count("pictures"), seen.count("latents")) == (1, 1)  # the second call drew and encoded nothing
    record = json.loads((made / "training.json").read_text())
    assert record["pictures_seen"]["denoiser"] == 2 * 2
    trained = StableDiffusionPipeline.from_pretrained(made, dtype=torch.float32, local_files_only=True)
    shipped = load_embedded()
    for part in ("unet", "vae", "text_encoder"):
        assert "_name_or_path" not in (made / part / "config.json").read_text()
        for new, old in zip(getattr(trained, part).parameters(), getattr(shipped, part).parameters(), strict=True):
            torch.testing.assert_close(new, old, rtol=0, atol=5e-3)  # tiny rates: still the shipped weights
    assert (made / "tokenizer" / "tokenizer.json").read_bytes() == (
        WEIGHTS / "tokenizer" / "tokenizer.json"
    ).read_bytes()
