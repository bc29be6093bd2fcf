"""The whole training of the embedded base. After an interruption, the same call continues it."""

import json
import os
import time
from pathlib import Path

import torch

from magictailor.common.distributed import device_named
from magictailor.common.events import Listener, Progress, ignore
from magictailor.common.files import write_json
from magictailor.common.logging import quiet_loading
from magictailor.world.training.autoencoder_phase import fill, inspect_autoencoder, prepare_autoencoder
from magictailor.world.training.bank import Bank
from magictailor.world.training.denoiser_phase import DenoiserPhase
from magictailor.world.training.examples import Examples
from magictailor.world.training.latents import Latents
from magictailor.world.training.output import Weights, start_folder, starting_weights
from magictailor.world.training.recipe import WorldTraining
from magictailor.world.training.rendering import concatenate
from magictailor.world.training.session import Clock, Session
from magictailor.world.training.state import acquired

FIRST_RENDERS = 2000  # enough to begin with, if minutes decide


def _workers(device: torch.device) -> int:
    """One process per core; on a GPU machine one core is left to the training."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1) if device.type == "cuda" else cores


def _run_phases(session: Session, bank: Bank, start: dict[str, Weights]) -> None:
    recipe, listen = session.recipe, session.listen
    whole_chunks = -(-recipe.autoencoder_pictures // recipe.chunk) * recipe.chunk
    examples = Examples(recipe.pictures, whole_chunks, recipe.captions, session.device)
    held_out = concatenate(bank.held_out())
    fill(session, bank, examples, min(FIRST_RENDERS, examples.room) if session.timed else examples.room)
    autoencoder = prepare_autoencoder(session, bank, examples, start.get("vae"))
    session.attempt("autoencoder held out", lambda: inspect_autoencoder(session, autoencoder, held_out))
    session.clock.begin("latents")
    latents = Latents(autoencoder, session.folder / "latents", keep=session.on_cpu)
    latents.encode_all(examples, recipe.chunk, listen)
    examples.drop_images()
    while not session.timed and (chunk := bank.next()) is not None:
        latents.add(chunk, examples)
        listen(Progress("latents", examples.count, recipe.pictures))
    DenoiserPhase(session, bank, examples, latents, held_out, start).run()


def train_world(
    output: Path,
    recipe: WorldTraining,
    device: str,
    *,
    listen: Listener = ignore,
    started: float | None = None,
    packed: Path | None = None,
    renders: Path | None = None,
    workers: int | None = None,
) -> Path:
    """Train the embedded base in ``output``; returns the folder of the finished pipeline.

    Args:
        started: `time.monotonic` when the minutes began to count; now if not given.
        packed: a folder for all results as one archive in pieces under 16 MiB, written each time they are saved.
        renders: a folder for the renders, which stay there; two trainings at the same time may share it.
        workers: number of rendering processes, one per core if not given; 0 in the second of two that share renders.

    Raises:
        InputError: the device or the start is missing, or the folder holds other files or another training; nothing has
            been written.
    """
    quiet_loading()
    torch_device = device_named(device)
    start = starting_weights(recipe.start)
    if torch_device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    with acquired(output, recipe, ("steps", "minutes", "samples", "save_seconds")) as folder:
        clock = Clock(folder / "clock.json", recipe.minutes, started or time.monotonic())
        session = Session(folder, recipe, torch_device, clock, listen, packed)
        bank = Bank(
            renders or folder / "bank", recipe.pictures, recipe.captions, recipe.held_out, recipe.chunk,
            _workers(torch_device) if workers is None else workers, keep=session.on_cpu or renders is not None,
            skip=session.timed, first=recipe.first, listen=listen,
        )  # fmt: skip
        if (earlier := start_folder(recipe.start) / "training.json").is_file():
            session.record["before"] = json.loads(earlier.read_text("utf-8"))
        try:
            _run_phases(session, bank, start)
        finally:
            bank.close()
        session.record["seconds"] = round(clock.seconds(), 1)
        for target in (folder / "training.json", folder / "base" / "training.json"):
            write_json(target, session.record)
        session.attempt("pack", session.pack)
        return folder / "base"
