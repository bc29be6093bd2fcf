"""Training the world's segmenter: renders with noise, blur and brightness, so that generated pictures are read too."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from magictailor.files import write_json
from magictailor.recipe import Part
from magictailor.tensors import write_tensors
from magictailor.world.checks import FIRST_SEED
from magictailor.world.embedded import SIZE
from magictailor.world.pairs import RANGES
from magictailor.world.render import render
from magictailor.world.scene import random_scene
from magictailor.world.segmenter import CLASSES, WEIGHTS, WorldSegmenter, classes_of
from magictailor.world.training.bank import Progress, draw_chunks, emphasis, to_pixels
from magictailor.world.training.state import Report, Trainee, claim_folder, generator

HELD_OUT = 512
COVERED = 20  # pixels: of smaller parts nothing is asked


def drawn_with_classes(seed: int) -> NDArray[np.uint8]:
    """The scene of this seed, uint8 [S, S, 4]: its picture, and which class each pixel is."""
    scene = random_scene(seed)
    rendering = render(scene, SIZE)
    return np.concatenate([rendering.image, classes_of(scene, rendering)[..., None]], -1)


def roughened(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Pixels [N, 3, H, W] in [-1, 1] with noise, blur and brightness drawn for each picture."""
    count = len(pixels)
    draws = torch.rand(count, 3, generator=random)
    blurred = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = (draws[:, 0] * 0.8).view(-1, 1, 1, 1)
    noise = torch.randn(pixels.shape, generator=random) * (0.12 * draws[:, 1]).view(-1, 1, 1, 1)
    light = (0.85 + 0.3 * draws[:, 2]).view(-1, 1, 1, 1)
    return (light * ((1 - share) * pixels + share * blurred) + noise).clamp(-1, 1)


def overlaps(network: WorldSegmenter, seeds: range) -> dict[str, float]:
    """Mean intersection over union of each class that covers enough pixels, over held-out scenes, and of all."""
    found: dict[str, list[float]] = {name: [] for name in CLASSES[1:]}
    for seed in seeds:
        picture = drawn_with_classes(seed)
        with torch.no_grad():
            guess = network(to_pixels(picture[None], torch.device("cpu")))[0].argmax(0).numpy()
        for number, name in enumerate(CLASSES[1:], 1):
            wanted, got = picture[..., 3] == number, guess == number
            if wanted.sum() >= COVERED:
                found[name].append(float((wanted & got).sum() / (wanted | got).sum()))
    means = {name: float(np.mean(values)) for name, values in found.items() if values}
    return {**means, "all": float(np.mean([v for values in found.values() for v in values]))}


class SegmenterTraining(Part):
    """The recipe. A picture's seed is its number; ``rate`` decays over the last third."""

    pictures: int = Field(24_000, ge=100, lt=RANGES["tuning"])
    steps: int = Field(4_000, ge=1)
    batch: int = Field(32, ge=1, le=65_536)
    rate: float = Field(2e-3, gt=0, le=1)


def train_segmenter(folder: Path, recipe: SegmenterTraining, report: Report, progress: Progress) -> dict[str, float]:
    """Train in ``folder``, resumable; writes ``segmenter.safetensors`` (half precision) and what it scores.

    Raises:
        InputError: the folder holds something else; nothing has been written.
    """
    folder, steps = claim_folder(folder, recipe), recipe.steps
    bank = draw_chunks(folder / "pictures", recipe.pictures, drawn_with_classes, progress)
    torch.manual_seed(0)
    network = WorldSegmenter()
    trainee = Trainee([network], folder / "state.safetensors", recipe.rate, 0.998, steps)
    shares = torch.tensor([emphasis(random_scene(i)) for i in range(len(bank))])
    while trainee.step < steps:
        random = generator(0, trainee.step)
        chosen = torch.multinomial(shares, recipe.batch, replacement=True, generator=random).numpy()
        pixels = roughened(to_pixels(bank[chosen], torch.device("cpu")), random)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(pixels)
        loss = F.cross_entropy(logits.float(), torch.from_numpy(bank[chosen][..., 3].astype(np.int64)))
        trainee.update(loss)
        if trainee.step % 50 == 0:
            report(trainee.step, steps, {"loss": loss.item()})
    trainee.save()
    trainee.swap()
    score = overlaps(network.eval(), range(FIRST_SEED, FIRST_SEED + HELD_OUT))
    write_tensors(folder / WEIGHTS.name, {k: v.half() for k, v in network.state_dict().items()})
    write_json(folder / "segmenter.json", {"recipe": recipe.model_dump(mode="json"), "overlap": score})
    return score
