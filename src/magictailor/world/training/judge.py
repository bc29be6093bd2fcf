"""Training of the world's judge on labelled renders with noise and blur, and on renders that the embedded base has redrawn."""

import time
from contextlib import closing
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from magictailor.common.distributed import device_named
from magictailor.common.errors import InputError
from magictailor.common.events import Listener, Progress, ignore
from magictailor.common.files import write_json
from magictailor.common.tensors import write_tensors
from magictailor.recipe import ConfigModel
from magictailor.weights import JUDGE
from magictailor.world.judge import Judge, load_judge
from magictailor.world.pairs import RANGES
from magictailor.world.training.adapter import compact
from magictailor.world.training.bank import ONE_THREAD, environment
from magictailor.world.training.judge_bank import JudgeBank
from magictailor.world.training.judge_losses import degrade, judge_loss, mirror, unpack
from magictailor.world.training.judge_scores import Autoencoder, judge_scores
from magictailor.world.training.state import Trainee, acquired, autocast, generator

SAVE_SECONDS, LOG_STEPS, UPDATE_STEPS = 60, 50, 8


class JudgeTraining(ConfigModel):
    """The recipe. ``pictures``: number of renders; their seeds are ``first``, ``first`` + 1, ...

    redraw_every: the embedded base redraws one render in so many, on the CPU in half a second each; 0: none.
    minutes: train for so long, whatever ``steps`` says, on the renders that exist by then. Without it the result depends
        only on the recipe, and the training can be interrupted.
    start: a file of weights to begin with.
    start_share: its share, 0 .. 1, in the mean of the start's and the trained weights, which is the result (Wortsman 2022,
        "Model soups").
    """

    pictures: int = Field(60_000, ge=100, lt=RANGES["tuning"] // 2)
    first: int = Field(0, ge=0, lt=RANGES["tuning"] // 2)
    redraw_every: int = Field(0, ge=0, le=1000)
    steps: int = Field(12_000, ge=1)
    batch: int = Field(32, ge=4, le=65_536)
    lr: float = Field(1.5e-3, gt=0, le=1)
    minutes: float | None = Field(None, gt=0)
    held_out: int = Field(2_000, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)
    start: Path | None = None
    start_share: float = Field(0, ge=0, lt=1)


class JudgeTrainer:
    """The network, its optimizer and one step of its training."""

    def __init__(self, folder: Path, recipe: JudgeTraining, device: torch.device) -> None:
        self.folder, self.recipe, self.device = folder, recipe, device
        torch.manual_seed(recipe.seed)
        self.network = (Judge() if recipe.start is None else load_judge(recipe.start).train()).to(device)
        torch.backends.cudnn.benchmark = True  # all batches have one shape
        if device.type == "cpu":
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.started = time.monotonic()
        path = folder / "state.safetensors"
        self.trainee = Trainee([self.network], path, recipe.lr, 0.998, self.fraction_done, decay=0.4)

    def fraction_done(self, step: int) -> float:
        if self.recipe.minutes is None:
            return step / self.recipe.steps
        return (time.monotonic() - self.started) / (60 * self.recipe.minutes)

    def step(self, rows: Tensor) -> Tensor:
        """One step on labelled renders, uint8 [N, ROW]; returns the loss."""
        random = generator(self.recipe.seed + 1, self.trainee.step, self.device)
        pixels, classes, targets = unpack(rows)
        pixels, classes = mirror(pixels, classes, random)
        with autocast(self.device):
            prediction = self.network(degrade(pixels, random))
        loss = judge_loss(self.network, prediction, classes, targets, random)
        self.trainee.update(loss)
        return loss.detach()

    def result(self) -> dict[str, Tensor]:
        """The averaged weights as they are shipped."""
        weights, share = self.trainee.state_dict(0, average=True), self.recipe.start_share
        if self.recipe.start is not None and share:
            start = load_judge(self.recipe.start).state_dict()
            weights = {k: torch.lerp(v, start[k].to(v), share) for k, v in weights.items()}
        return {k: compact(v) for k, v in weights.items()}

    def save(self) -> None:
        """Write the state, and the averaged weights as they are shipped."""
        self.trainee.save()
        write_tensors(self.folder / JUDGE.name, self.result())

    def train(self, bank: JudgeBank, listen: Listener) -> None:
        recipe, trainee = self.recipe, self.trainee
        self.started = saved = time.monotonic()
        while not trainee.done():
            if trainee.step % UPDATE_STEPS == 0:
                bank.update()
            random = generator(recipe.seed, trainee.step)
            loss = self.step(bank.rows(torch.randint(bank.ready, (recipe.batch,), generator=random)))
            if trainee.step % LOG_STEPS == 0:
                metrics = {"loss": trainee.check(loss), "pictures": float(bank.ready)}
                listen(Progress("judge", trainee.step, recipe.steps, metrics))
                if time.monotonic() - saved > SAVE_SECONDS:
                    self.save()
                    saved = time.monotonic()
        self.save()


def train_judge(
    output: Path,
    recipe: JudgeTraining,
    device: str = "cpu",
    *,
    autoencoder: Autoencoder | None = None,
    workers: int | None = None,
    listen: Listener = ignore,
) -> dict[str, dict[str, float]]:
    """Train in ``output``; writes ``judge.safetensors`` (half precision) and ``judge.json`` with its scores.

    Args:
        autoencoder: the base's, to score the judge on images that have gone through it.
        workers: number of rendering processes.

    Returns:
        The scores, see `judge_scores`.

    Raises:
        InputError: the device or the start is missing, or the folder holds other files or another training; nothing has
            been written.
    """
    torch_device = device_named(device)
    if recipe.start is not None and not recipe.start.is_file():
        raise InputError(
            f"{recipe.start}: no such file", "give the judge.safetensors of an earlier training", field="start"
        )
    if recipe.start_share and recipe.start is None:
        raise InputError(f"{recipe.start_share}: there is no start", "give one with --start", field="start_share")
    with acquired(output, recipe, ("steps", "minutes", "held_out")) as folder:
        trainer = JudgeTrainer(folder, recipe, torch_device)
        seeds, streaming = range(recipe.first, recipe.first + recipe.pictures), recipe.minutes is not None
        bank = JudgeBank(folder / "pictures", seeds, recipe.redraw_every, torch_device, streaming, workers)
        with environment(ONE_THREAD), closing(bank):
            held_out = bank.held_out(recipe.held_out)
            bank.wait(listen)
            trainer.train(bank, listen)
            rows = held_out()
        network = Judge().to(torch_device)
        network.load_state_dict({k: v.float() for k, v in trainer.result().items()})
        autoencoder = None if autoencoder is None else autoencoder.to(torch_device)
        scores = judge_scores(network.eval(), rows, autoencoder)
        record = {"recipe": recipe.model_dump(mode="json"), "steps": trainer.trainee.step, "pictures": bank.ready}
        write_json(folder / "judge.json", {**record, "held out": scores})
        return scores
