"""Training the world's judge: renders, a quarter of them through the autoencoder, with noise and blur, as generated pictures have them."""

from pathlib import Path
from typing import Literal

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
from magictailor.world.embedded import SIZE, load_autoencoder
from magictailor.world.judge import WEIGHTS, Judge, Opinion, load_judge
from magictailor.world.labels import MEAN_SIZE, SIZE_SPREAD, UNKNOWN, drawn_with_labels, of_owners, of_picture
from magictailor.world.pairs import RANGES
from magictailor.world.scene import Component, Scene, random_scene
from magictailor.world.training.bank import LATE, Progress, draw_chunks, to_pixels
from magictailor.world.training.judge_scores import judge_scores, through
from magictailor.world.training.state import Report, Trainee, claim_folder, generator

HELD_OUT = 3000
RARE, SMALL = 3.0, 3.0  # how often pictures of parts that few wear, and of small things, are trained on
NOTHING = 0.3
ROUND_TRIP = 4  # one picture of so many goes through the autoencoder
DICE = 0.5  # beside the cross-entropy, in which a part of thirty pixels hardly counts
OTHER_HEADS = 0.3  # beside what each pixel shows, which the other heads rest on


def drawn(seed: int) -> NDArray[np.uint8]:
    """The scene of this seed, see `drawn_with_labels`."""
    return drawn_with_labels(random_scene(seed), SIZE)


def _emphasis(scene: Scene) -> float:
    if not scene.things:
        return NOTHING
    if scene.view == "far" or len(scene.things) > 1:
        return SMALL
    thing = scene.things[0]
    kinds = [thing.kind] if isinstance(thing, Component) else [part.kind for part in thing.components]
    return RARE if any(kind in LATE for kind in kinds) else 1.0


def roughened(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Pixels [N, 3, H, W] in [-1, 1] with noise and blur drawn for each picture; colours stay what they are."""
    draws = torch.rand(len(pixels), 2, generator=random)
    blurred = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = (draws[:, 0] * 0.7).view(-1, 1, 1, 1)
    noise = torch.randn(pixels.shape, generator=random) * (0.1 * draws[:, 1]).view(-1, 1, 1, 1)
    return ((1 - share) * pixels + share * blurred + noise).clamp(-1, 1)


def dice_loss(logits: Tensor, things: Tensor) -> Tensor:
    """1 minus the soft Dice overlap 2 |p t| / (|p| + |t|) of each thing in each picture, on average over those that are there
    (Milletari 2016, V-Net, with |p| and |t| not squared).

    Logits [N, classes, H, W], things [N, H, W]; class 0 is nothing. A small part weighs as much as a large one.
    """
    there = F.one_hot(things, logits.shape[1]).movedim(-1, 1).flatten(2).to(logits.dtype)
    shares = logits.softmax(1).flatten(2)
    area = there.sum(2)[:, 1:]
    overlap = 2 * (shares * there).sum(2)[:, 1:] / (shares.sum(2)[:, 1:] + area).clamp(min=1)
    return (1 - overlap)[area > 0].sum() / (area > 0).sum().clamp(min=1)


def judge_loss(opinion: Opinion, pictures: NDArray[np.uint8], scenes: list[Scene]) -> Tensor:
    """Cross-entropy of every head, the things' overlap, and the squared error of sizes; pixels to which a head does not apply count nothing there."""
    labels = [of_owners(scene, picture[..., 3]) for scene, picture in zip(scenes, pictures, strict=True)]
    things, patterns = (torch.from_numpy(np.stack([row[i] for row in labels]).astype(np.int64)) for i in (0, 1))
    sizes = (torch.from_numpy(np.stack([row[2] for row in labels])) - MEAN_SIZE) / SIZE_SPREAD
    wanted = torch.tensor([of_picture(scene) for scene in scenes])
    shades = torch.from_numpy(pictures[..., 4].astype(np.int64))
    others = [
        F.cross_entropy(opinion.shades.float(), shades, ignore_index=UNKNOWN),
        F.cross_entropy(opinion.patterns.float(), patterns, ignore_index=UNKNOWN),
        (opinion.sizes.float() - sizes)[~sizes.isnan()].square().mean(),
    ]
    heads = (opinion.place, opinion.filter, opinion.distance)
    others += [F.cross_entropy(h.float(), wanted[:, i], ignore_index=UNKNOWN) for i, h in enumerate(heads)]
    shown = F.cross_entropy(opinion.things.float(), things) + DICE * dice_loss(opinion.things.float(), things)
    return shown + OTHER_HEADS * torch.stack(others).nan_to_num().sum()


class JudgeTraining(Part):
    """The recipe. A picture's seed is its number; ``rate`` decays over the last third."""

    pictures: int = Field(60_000, ge=100, lt=RANGES["tuning"])
    steps: int = Field(6_000, ge=1)
    batch: int = Field(32, ge=4, le=65_536)
    rate: float = Field(2e-3, gt=0, le=1)
    start: Literal["scratch", "embedded"] = "scratch"  # embedded: from the shipped weights with a new warm-up


def train_judge(folder: Path, recipe: JudgeTraining, report: Report, progress: Progress) -> dict[str, dict[str, float]]:
    """Train in ``folder``, resumable; writes ``judge.safetensors`` (half precision) and ``judge.json``, what it scores.

    Raises:
        InputError: the folder holds something else; nothing has been written.
    """
    folder, steps = claim_folder(folder, recipe), recipe.steps
    bank = draw_chunks(folder / "pictures", recipe.pictures, drawn, progress)
    torch.manual_seed(0)
    network, autoencoder = load_judge() if recipe.start == "embedded" else Judge(), load_autoencoder()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainee = Trainee([network], folder / "state.safetensors", recipe.rate, 0.998, steps)
    shares = torch.tensor([_emphasis(random_scene(i)) for i in range(len(bank))])
    while trainee.step < steps:
        random = generator(0, trainee.step)
        chosen = torch.multinomial(shares, recipe.batch, replacement=True, generator=random).numpy()
        pixels = to_pixels(bank[chosen], torch.device("cpu"))
        rest = recipe.batch // ROUND_TRIP
        pixels = torch.cat([through(autoencoder, pixels[:rest]), pixels[rest:]])
        opinion = network(roughened(pixels, random))
        loss = judge_loss(opinion, bank[chosen], [random_scene(int(i)) for i in chosen])
        trainee.update(loss)
        if trainee.step % 50 == 0:
            report(trainee.step, steps, {"loss": loss.item()})
    trainee.save()
    trainee.swap()
    write_tensors(folder / WEIGHTS.name, {k: v.half() for k, v in network.state_dict().items()})
    scores = judge_scores(network.half().float().eval(), autoencoder, range(FIRST_SEED, FIRST_SEED + HELD_OUT))
    write_json(folder / "judge.json", {"recipe": recipe.model_dump(mode="json"), "held out": scores})
    return scores
