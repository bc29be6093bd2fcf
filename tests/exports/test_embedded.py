"""The shipped bases from a pair of the world to files that plain diffusers generates with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from magictailor import load, personalize
from magictailor.exports import export
from magictailor.weights import BASES
from magictailor.world.pairs import world_pair, write_pair

STEPS, SEED, GUIDANCE = 3, 5, 4.0


@pytest.fixture(scope="module", params=BASES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dit")
    write_pair(world_pair(100_000_000), folder / "pair")
    settings = [
        "phases.0.steps=1",
        "phases.1.steps=1",
        "phases.0.lr=0.05",
        "phases.1.lr=0.05",
        "sampling.preview_every=0",
    ]
    return personalize(folder / "pair", folder / "run", model=request.param, settings=settings).folder


def test_the_readmes_code_generates_the_same_picture(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transformer's folder has no autoencoder, and its words are rows of two text encoders."""
    ours = load(run)
    prompt = f"a photo of {' with '.join(ours.words)}"
    (item,) = ours.generate(prompt, seed=SEED, steps=STEPS, guidance=GUIDANCE)
    made = export(run, tmp_path / "out", "diffusers")
    code = (made / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(made)
    names: dict[str, Any] = {}
    exec(code.partition("image = ")[0], names)
    pipe = names["pipe"]
    more = {"max_sequence_length": 48} if "transformer" in pipe.components else {}
    image = pipe(
        prompt, num_inference_steps=STEPS, guidance_scale=GUIDANCE, height=128, width=128,
        generator=torch.Generator().manual_seed(SEED), **more,
    ).images[0]  # fmt: skip
    assert np.abs(np.asarray(image, int) - np.asarray(item.image, int)).max() <= 1


def test_a_merged_export_is_whole(run: Path, tmp_path: Path) -> None:
    made = export(run, tmp_path / "merged", "merged")
    assert (made / "vae" / "config.json").is_file()
