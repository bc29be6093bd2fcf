"""Training of an adapter next to the frozen embedded base: what a ControlNet's and an IP-Adapter's have in common."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from magictailor.common.events import Listener, Progress
from magictailor.common.files import append_lines
from magictailor.common.pictures import save_png
from magictailor.recipe import ConfigModel
from magictailor.world.embedded import load_autoencoder
from magictailor.world.training.bank import Bank
from magictailor.world.training.examples import Examples
from magictailor.world.training.latents import Latents
from magictailor.world.training.rendering import HELD_OUT, Chunk, concatenate
from magictailor.world.training.state import METRICS_FILE, Trainee, acquired

LOG_STEPS, WARMUP = 25, 100
SMALL = 4096  # numbers: a matrix with fewer keeps 16 bits


class AdapterTraining(ConfigModel):
    """The recipe. ``pictures``: number of renders; their seeds are 0, 1, 2, ...

    The result depends only on the recipe, and the training can be interrupted.
    """

    pictures: int = Field(16_000, ge=16, lt=100_000_000)
    captions: int = Field(8, ge=1, le=64)  # per render
    held_out: int = Field(64, ge=8, le=1024)  # measured in one batch
    steps: int = Field(6_000, ge=1)
    batch: int = Field(24, ge=1, le=65_536)
    lr: float = Field(3e-4, gt=0, le=1)  # AdamW's; Muon's is ten times as large
    ema: float = Field(0.998, ge=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**32)
    chunk: int = Field(256, ge=8)  # renders per job of a worker
    samples: int = Field(48, ge=0, le=256)  # images to score at the end
    save_seconds: float = Field(120, gt=0)


def compact(weight: Tensor) -> Tensor:
    """A trained weight as it is shipped: matrices with 8 bits, everything else with 16."""
    kind = torch.float8_e4m3fn if weight.ndim > 1 and weight.numel() > SMALL else torch.float16
    return weight.detach().to(kind).contiguous()


@dataclass(frozen=True)
class Renders:
    """The training's renders with their latents, and the held-out ones with theirs."""

    examples: Examples
    held: Chunk
    held_latents: Tensor


def encoded_renders(
    folder: Path, recipe: AdapterTraining, device: torch.device, workers: int, listen: Listener
) -> Renders:
    """Render and encode in ``folder``, or read what is there. ``workers``: number of rendering processes."""
    bank = Bank(
        folder / "bank", recipe.pictures, recipe.captions, recipe.held_out, recipe.chunk, workers, keep=True,
        skip=False, listen=listen,
    )  # fmt: skip
    examples = Examples(recipe.pictures, recipe.pictures, recipe.captions, device)
    with closing(bank):
        held = concatenate(bank.held_out())
        while (chunk := bank.next()) is not None:
            examples.add(chunk, None)
            listen(Progress("renders", examples.count, recipe.pictures))
    latents = Latents(load_autoencoder().to(device), folder / "latents", keep=True)
    latents.encode_all(examples, recipe.chunk, listen)
    return Renders(examples, held, latents.encode(HELD_OUT, torch.from_numpy(held.images)).to(device))


class AdapterTrainer(ABC):
    """An adapter, its optimizer, and one step of its training. ``kind``: its name in the bars, and its folder."""

    kind: str

    def __init__(self, folder: Path, recipe: AdapterTraining, renders: Renders, trained: Sequence[nn.Module]) -> None:
        self.renders = renders
        self.trainee = Trainee(
            trained, folder / "state.safetensors", recipe.lr, recipe.ema, lambda step: step / recipe.steps,
            warmup=WARMUP,
        )  # fmt: skip

    @abstractmethod
    def step(self) -> dict[str, Tensor]:
        """One step; returns its losses by name."""

    @abstractmethod
    def held_out(self) -> dict[str, float]:
        """The averaged weights' losses on held-out renders, with the adapter's input and without, by name."""

    @abstractmethod
    def write(self, target: Path, record: Mapping[str, Any]) -> None:
        """The averaged weights and the record as a folder, which replaces what is there."""

    @abstractmethod
    def scores(self, target: Path, count: int) -> tuple[str, dict[str, float], Image.Image]:
        """What a written adapter does on ``count`` held-out scenes: a name, the scores, and a sheet."""


def train_adapter(
    output: Path,
    recipe: AdapterTraining,
    make: Callable[[Path, Renders], AdapterTrainer],
    about: Mapping[str, Any],
    device: torch.device,
    workers: int,
    listen: Listener,
) -> dict[str, Any]:
    """Train in ``output``; writes a folder with the adapter and its record, and ``samples.png``.

    Args:
        make: the trainer, from the training's folder and its renders.
        about: what the record says besides recipe, steps, losses and scores.

    Returns:
        The record.

    Raises:
        InputError: the folder holds other files or another training; nothing has been written.
    """
    with acquired(output, recipe, ("steps", "samples", "save_seconds")) as folder:
        trainer = make(folder, encoded_renders(folder, recipe, device, workers, listen))
        trainee, target = trainer.trainee, folder / trainer.kind
        record: dict[str, Any] = {**about, "recipe": recipe.model_dump(mode="json")}

        def log(metrics: dict[str, float]) -> None:
            listen(Progress(trainer.kind, trainee.step, recipe.steps, metrics))
            line = {"step": trainee.step, **{k: round(v, 5) for k, v in metrics.items()}}
            append_lines(folder / METRICS_FILE, [json.dumps(line)])

        def save() -> None:
            trainee.save()
            record["held out"] = trainer.held_out()
            log(record["held out"])
            record["steps"] = trainee.step
            trainer.write(target, record)

        saved = began = time.monotonic()
        first = trainee.step
        while not trainee.done():
            losses = trainer.step()
            if trainee.step % LOG_STEPS == 0:
                speed = (trainee.step - first) * recipe.batch / (time.monotonic() - began)
                log({name: trainee.check(loss) for name, loss in losses.items()} | {"samples_per_second": speed})
            if time.monotonic() - saved > recipe.save_seconds:
                save()
                saved = time.monotonic()
        save()
        if recipe.samples:
            name, scores, sheet = trainer.scores(target, recipe.samples)
            record[name] = scores
            save_png(sheet, folder / "samples.png")
            trainer.write(target, record)
        return record
