"""Training of the world's judge on labelled renders with noise, blur and artefacts, as generated images have them.

``python -m magictailor.world.training.judge --output DIR --device cuda --minutes 1.5 --pictures 60000``
"""

import argparse
import os
import time
from contextlib import closing
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from magictailor.common.distributed import device_named
from magictailor.common.errors import InputError
from magictailor.common.events import Event, Listener, Progress, ignore
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
from magictailor.world.training.judge_scores import Autoencoder, judge_scores, reconstruct
from magictailor.world.training.state import Trainee, acquired, generator

ROUND_TRIP = 4  # one image in so many goes through the autoencoder
SAVE_SECONDS, LOG_STEPS, UPDATE_STEPS = 60, 50, 8


class JudgeTraining(ConfigModel):
    """The recipe. ``pictures``: number of renders; their seeds are 0, 1, 2, ...

    ``minutes``: train for so long, whatever ``steps`` says, on the renders that exist by then. Without it the result depends
    only on the recipe, and the training can be interrupted. ``start``: a file of weights to begin with.
    """

    pictures: int = Field(60_000, ge=100, lt=RANGES["tuning"])
    steps: int = Field(12_000, ge=1)
    batch: int = Field(32, ge=4, le=65_536)
    lr: float = Field(1.5e-3, gt=0, le=1)
    minutes: float | None = Field(None, gt=0)
    held_out: int = Field(2_000, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)
    start: Path | None = None


class JudgeTrainer:
    """The network, its optimizer and one step of its training."""

    def __init__(
        self, folder: Path, recipe: JudgeTraining, device: torch.device, autoencoder: Autoencoder | None
    ) -> None:
        self.folder, self.recipe, self.device, self.autoencoder = folder, recipe, device, autoencoder
        torch.manual_seed(recipe.seed)
        self.network = (Judge() if recipe.start is None else load_judge(recipe.start).train()).to(device)
        torch.backends.cudnn.benchmark = True  # all batches have one shape
        if device.type == "cpu":
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.started = time.monotonic()
        self.precision = torch.autocast(device.type, torch.bfloat16)
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
        with self.precision:
            if self.autoencoder is not None:
                count = len(pixels) // ROUND_TRIP
                pixels = torch.cat([reconstruct(self.autoencoder, pixels[:count]), pixels[count:]])
            prediction = self.network(degrade(pixels, random))
        loss = judge_loss(self.network, prediction, classes, targets, random)
        self.trainee.update(loss)
        return loss.detach()

    def save(self) -> None:
        """Write the state, and the averaged weights as they are shipped."""
        self.trainee.save()
        weights = self.trainee.state_dict(0, average=True)
        write_tensors(self.folder / JUDGE.name, {k: compact(v) for k, v in weights.items()})

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
        autoencoder: the base's; a quarter of the images go through it.
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
    with acquired(output, recipe, ("steps", "minutes", "held_out")) as folder:
        autoencoder = None if autoencoder is None else autoencoder.to(torch_device)
        trainer = JudgeTrainer(folder, recipe, torch_device, autoencoder)
        streaming = recipe.minutes is not None
        bank = JudgeBank(folder / "pictures", recipe.pictures, torch_device, streaming, workers)
        with environment(ONE_THREAD), closing(bank):
            held_out = bank.held_out(recipe.held_out)
            bank.wait(listen)
            trainer.train(bank, listen)
            rows = held_out()
        network = Judge().to(torch_device)
        weights = trainer.trainee.state_dict(0, average=True)
        network.load_state_dict({k: compact(v).float() for k, v in weights.items()})
        scores = judge_scores(network.eval(), rows, autoencoder)
        record = {"recipe": recipe.model_dump(mode="json"), "steps": trainer.trainee.step, "pictures": bank.ready}
        write_json(folder / "judge.json", {**record, "autoencoder": autoencoder is not None, "held out": scores})
        return scores


def _main() -> None:
    parser = argparse.ArgumentParser(description="Train the world's judge.")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, help="number of rendering processes; default: one per core")
    parser.add_argument(
        "--autoencoder", type=Path, help="folder of a base; a quarter of the images pass its autoencoder"
    )
    for name, kind in (("pictures", int), ("steps", int), ("batch", int), ("held-out", int), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--start", type=Path, help="weights to begin with: judge.safetensors of an earlier training")
    given = {k: v for k, v in vars(parser.parse_args()).items() if v is not None}
    output, device, workers = given.pop("output"), given.pop("device"), given.pop("workers", None)
    autoencoder, base = None, given.pop("autoencoder", None)
    if base is not None:
        from magictailor.world.embedded import load_autoencoder

        autoencoder = load_autoencoder(base / "vae")
    started = time.monotonic()

    def listen(event: Event) -> None:
        if isinstance(event, Progress) and (not event.metrics or event.done % 200 == 0):
            metrics = "  ".join(f"{k} {v:.4g}" for k, v in event.metrics.items())
            elapsed = time.monotonic() - started
            print(f"{event.task} {event.done} of {event.total}  {elapsed:.0f} s  {metrics}", flush=True)

    recipe = JudgeTraining(**{"batch": 256 if device == "cuda" else 32, **given})
    workers = workers or os.cpu_count()
    scores = train_judge(output, recipe, device, autoencoder=autoencoder, workers=workers, listen=listen)
    for condition, values in scores.items():
        print(condition, {name: round(value, 3) for name, value in values.items()})
    print(f"{time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    _main()
