"""Training the world's judge: labelled renders with noise, blur and artefacts, as generated pictures have them.

``python -m magictailor.world.training.judge --output DIR --device cuda --minutes 1.5 --pictures 60000``
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from magictailor.common.errors import InputError
from magictailor.common.files import write_json
from magictailor.common.processes import device_named
from magictailor.common.tensors import write_tensors
from magictailor.recipe import Part
from magictailor.weights import JUDGE
from magictailor.world.judge import Judge, Opinion, load_judge, shares_of
from magictailor.world.labels import CLASSES, HEADS, TARGETS, UNKNOWN
from magictailor.world.pairs import RANGES
from magictailor.world.render import SIZE
from magictailor.world.training.judge_bank import JudgeBank
from magictailor.world.training.judge_scores import Coder, judge_scores, through
from magictailor.world.training.state import Report, Trainee, claim_folder, generator

ROUND_TRIP = 4  # one picture of so many goes through the autoencoder
DICE = 0.5  # beside the cross-entropy, in which a component of a hundred pixels hardly counts
VARIANTS, IDENTITY, PICTURE = 0.5, 0.5, 0.3  # weights of the heads beside what each pixel shows
SAVE_SECONDS, REPORT_STEPS, UPDATE_STEPS = 60, 50, 8
Progress = Callable[[int, int], None]
_COMPONENT_HEADS = [i for i, head in enumerate(HEADS) if head.component]
_IDENTITY_HEADS = [i for i, head in enumerate(HEADS) if not head.component]


class JudgeTraining(Part):
    """The recipe. A picture's seed is its number.

    ``minutes``: train for so long, whatever ``steps`` says, on the pictures that are drawn by then. Without it a run depends
    on its recipe alone, and can be interrupted. ``start``: a file of weights to begin with.
    """

    pictures: int = Field(60_000, ge=100, lt=RANGES["tuning"])
    steps: int = Field(12_000, ge=1)
    batch: int = Field(32, ge=4, le=65_536)
    lr: float = Field(1.5e-3, gt=0, le=1)
    minutes: float | None = Field(None, gt=0)
    held_out: int = Field(2_000, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)
    start: Path | None = None


def roughened(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Pixels [N, 3, S, S] in [-1, 1] with noise, blur and the traces of another size, drawn for each picture.

    Colours stay what they are on average.
    """
    device, side = pixels.device, pixels.shape[-1]
    draws = torch.rand(len(pixels), 3, generator=random, device=device).view(-1, 3, 1, 1, 1)
    smaller = F.interpolate(pixels, size=(side * 3 // 4, side * 3 // 4), mode="bilinear", antialias=True)
    resized = F.interpolate(smaller, size=(side, side), mode="bilinear", align_corners=False)
    pixels = torch.where(draws[:, 2] < 0.2, resized, pixels)
    blurred = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = 0.8 * draws[:, 0]
    noise = torch.randn(pixels.shape, generator=random, device=device) * (0.1 * draws[:, 1])
    return ((1 - share) * pixels + share * blurred + noise).clamp(-1, 1)


def mirrored(pixels: Tensor, classes: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Half of the pictures [N, 3, S, S] and their classes [N, S, S] turned round, as drawn for each."""
    turned = torch.rand(len(pixels), generator=random, device=pixels.device) < 0.5
    pixels = torch.where(turned.view(-1, 1, 1, 1), pixels.flip(-1), pixels)
    return pixels, torch.where(turned.view(-1, 1, 1), classes.flip(-1), classes)


def one_hot(classes: Tensor) -> Tensor:
    """Classes [N, S, S] as zeros and ones, float [N, C, S, S]."""
    numbers = torch.arange(len(CLASSES), device=classes.device).view(1, -1, 1, 1)
    return (classes[:, None] == numbers).float()


def dice_loss(probabilities: Tensor, true: Tensor) -> Tensor:
    """1 minus the soft Dice overlap 2 |p t| / (|p| + |t|) of each class in each picture, on average over those that are there
    (Milletari 2016, V-Net, with |p| and |t| not squared).

    Both [N, C, S, S]; class 0 is nothing. A small component weighs as much as a large one.
    """
    area = true.sum((2, 3))[:, 1:]
    overlap = 2 * (probabilities * true).sum((2, 3))[:, 1:]
    overlap = overlap / (probabilities.sum((2, 3))[:, 1:] + area).clamp(min=1)
    there = (area > 0).float()
    return ((1 - overlap) * there).sum() / there.sum().clamp(min=1)


def head_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over the known answers; 0 if there are none. Logits [N, heads, ANSWERS], targets [N, heads]."""
    losses = F.cross_entropy(logits.mT, targets, ignore_index=UNKNOWN, reduction="sum")
    return losses / (targets != UNKNOWN).sum().clamp(min=1)


def judge_loss(network: Judge, opinion: Opinion, classes: Tensor, targets: Tensor, random: torch.Generator) -> Tensor:
    """Cross-entropy of the pixels and of each head, and the classes' overlap. Heads read half of the pictures within true
    regions, and the others within those that the network sees itself.

    ``classes`` int64 [N, S, S]; ``targets`` int64 [N, TARGETS], see `magictailor.world.labels.Labels`.
    """
    logits, true = opinion.classes.float(), one_hot(classes)
    probabilities = logits.softmax(1)
    own = torch.rand(len(classes), generator=random, device=classes.device).view(-1, 1, 1, 1) < 0.5
    shares = shares_of(torch.where(own, probabilities.detach(), true))
    answers = network.answers(opinion, shares)
    shown = F.cross_entropy(logits, classes) + DICE * dice_loss(probabilities, true)
    variants = head_loss(answers[:, _COMPONENT_HEADS], targets[:, _COMPONENT_HEADS])
    identity = head_loss(answers[:, _IDENTITY_HEADS], targets[:, _IDENTITY_HEADS])
    picture = [
        head_loss(head.float()[:, None], targets[:, len(HEADS) + i, None])
        for i, head in enumerate((opinion.context, opinion.treatment, opinion.view))
    ]
    return shown + VARIANTS * variants + IDENTITY * identity + PICTURE * torch.stack(picture).sum()


def unpacked(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of bytes [N, ROW] to pixels [N, 3, S, S] in [-1, 1], classes int64 [N, S, S] and targets int64 [N, TARGETS]."""
    pictures = rows[:, :-TARGETS].view(len(rows), SIZE, SIZE, 4)
    pixels = pictures[..., :3].permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return pixels, pictures[..., 3].long(), rows[:, -TARGETS:].long()


class _Training:
    """One training: the network, its optimiser and its pictures."""

    def __init__(self, folder: Path, recipe: JudgeTraining, device: torch.device, coder: Coder | None) -> None:
        self.folder, self.recipe, self.device, self.coder = folder, recipe, device, coder
        torch.manual_seed(recipe.seed)
        self.network = (Judge() if recipe.start is None else load_judge(recipe.start).train()).to(device)
        torch.backends.cudnn.benchmark = True  # all batches have one shape
        if device.type == "cpu":
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.started = time.monotonic()
        self.precision = torch.autocast(device.type, torch.bfloat16)
        self.trainee = Trainee([self.network], folder / "state.safetensors", recipe.lr, 0.998, self.done, decay=0.4)

    def done(self, step: int) -> float:
        """The share of the training that is done after so many steps."""
        if self.recipe.minutes is None:
            return step / self.recipe.steps
        return (time.monotonic() - self.started) / (60 * self.recipe.minutes)

    def step(self, rows: Tensor) -> Tensor:
        """One step on these pictures, uint8 [N, ROW]; returns the loss."""
        random = generator(self.recipe.seed + 1, self.trainee.step, self.device)
        pixels, classes, targets = unpacked(rows)
        pixels, classes = mirrored(pixels, classes, random)
        with self.precision:
            if self.coder is not None:
                rest = len(pixels) // ROUND_TRIP
                pixels = torch.cat([through(self.coder, pixels[:rest]), pixels[rest:]])
            opinion = self.network(roughened(pixels, random))
        loss = judge_loss(self.network, opinion, classes, targets, random)
        self.trainee.update(loss)
        return loss.detach()

    def save(self) -> None:
        """The state, and the averaged weights in half precision."""
        self.trainee.save()
        weights = self.trainee.state_dict(0, average=True)
        write_tensors(self.folder / JUDGE.name, {k: v.half() for k, v in weights.items()})


def _learn(run: _Training, bank: JudgeBank, report: Report) -> None:
    recipe, trainee, saved = run.recipe, run.trainee, time.monotonic()
    run.started = time.monotonic()
    while not trainee.done():
        if trainee.step % UPDATE_STEPS == 0:
            bank.update()
        random = generator(recipe.seed, trainee.step)
        loss = run.step(bank.rows(torch.randint(bank.ready, (recipe.batch,), generator=random)))
        if trainee.step % REPORT_STEPS == 0:
            value = trainee.check(loss)
            report(trainee.step, recipe.steps, {"loss": value, "pictures": float(bank.ready)})
            if time.monotonic() - saved > SAVE_SECONDS:
                run.save()
                saved = time.monotonic()
    run.save()


def train_judge(
    folder: Path,
    recipe: JudgeTraining,
    report: Report,
    device: str = "cpu",
    *,
    coder: Coder | None = None,
    progress: Progress = lambda *_: None,
    workers: int | None = None,
) -> dict[str, dict[str, float]]:
    """Train in ``folder``; writes ``judge.safetensors`` (half precision) and ``judge.json``, what it scores, and returns that.

    ``coder``: the base's autoencoder, through which a quarter of the pictures go. ``progress``: of drawing ahead.
    ``workers``: processes that draw.

    Raises:
        InputError: a device that is not there, or a folder of something else; nothing has been written.
    """
    there = device_named(device)
    if recipe.start is not None and not recipe.start.is_file():
        raise InputError(f"--start {recipe.start}: no such file; name an earlier training's judge.safetensors")
    folder = claim_folder(folder, recipe, ("steps", "minutes", "held_out"))
    coder = None if coder is None else coder.to(there)
    run = _Training(folder, recipe, there, coder)
    with JudgeBank(folder / "pictures", recipe.pictures, there, recipe.minutes is not None, workers) as bank:
        held_out = bank.held_out(recipe.held_out)
        bank.wait(progress)
        _learn(run, bank, report)
        rows = held_out()
    network = Judge().to(there)
    network.load_state_dict({k: v.half().float() for k, v in run.trainee.state_dict(0, average=True).items()})
    scores = judge_scores(network.eval(), rows, coder)
    record = {"recipe": recipe.model_dump(mode="json"), "steps": run.trainee.step, "pictures": bank.ready}
    write_json(folder / "judge.json", {**record, "autoencoder": coder is not None, "held out": scores})
    return scores


def _main() -> None:
    parser = argparse.ArgumentParser(description="Train the world's judge.")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, help="processes that draw; as many as there are cores if not said")
    parser.add_argument(
        "--autoencoder", type=Path, help="folder of a base whose autoencoder a quarter of the pictures pass"
    )
    for name, kind in (("pictures", int), ("steps", int), ("batch", int), ("held-out", int), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--start", type=Path, help="weights to begin with: an earlier training's judge.safetensors")
    given = {k: v for k, v in vars(parser.parse_args()).items() if v is not None}
    output, device, workers = given.pop("output"), given.pop("device"), given.pop("workers", None)
    coder, base = None, given.pop("autoencoder", None)
    if base is not None:
        from magictailor.world.embedded import load_autoencoder

        coder = load_autoencoder(base)
    started = time.monotonic()

    def tell(step: int, steps: int, values: dict[str, float]) -> None:
        if step % 200 == 0:
            shown = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
            print(f"step {step}  {time.monotonic() - started:.0f} s  {shown}", flush=True)

    def drawn(done: int, total: int) -> None:
        print(f"pictures {done} of {total}, {time.monotonic() - started:.0f} s", flush=True)

    recipe = JudgeTraining(**{"batch": 256 if device == "cuda" else 32, **given})
    scores = train_judge(output, recipe, tell, device, coder=coder, progress=drawn, workers=workers or os.cpu_count())
    for condition, values in scores.items():
        print(condition, {name: round(value, 3) for name, value in values.items()})
    print(f"{time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    _main()
