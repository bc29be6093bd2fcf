"""The whole training of the embedded base, resumable: run the same command again to go on."""

import json
import os
import platform
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from magictailor.common.files import append_lines, write_json
from magictailor.common.logging import quiet_loading
from magictailor.common.pictures import save_png
from magictailor.common.processes import device_named
from magictailor.common.tensors import read_tensors, write_tensors
from magictailor.world.embedded import new_autoencoder, new_scheduler, new_text_encoder, new_unet
from magictailor.world.training.autoencoder import encode, held_out_psnr, initialise, normalise, train_autoencoder
from magictailor.world.training.bank import Bank
from magictailor.world.training.denoiser import Denoising, train_denoiser
from magictailor.world.training.drawing import Chunk
from magictailor.world.training.examples import Examples
from magictailor.world.training.latents import Latents
from magictailor.world.training.output import Weights, pack, starting_weights, write_base, write_state
from magictailor.world.training.recipe import WorldTraining
from magictailor.world.training.samples import round_trip_sheet, sample_captions, sample_sheet
from magictailor.world.training.state import Clock, Progress, Report, Trainee, claim_folder

Watch = Callable[[str, int, int, dict[str, float]], None]
FIRST_PICTURES = 2000
PACKED = ("base", "state", "autoencoder.png", "samples.png", "samples.json", "metrics.jsonl", "training.json")


class Run:
    """Folder, clock, progress and record of one training."""

    def __init__(
        self, folder: Path, recipe: WorldTraining, device: torch.device, watch: Watch, clock: Clock, packed: Path | None
    ) -> None:
        self.folder, self.recipe, self.device, self.watch, self.clock = folder, recipe, device, watch, clock
        self.packed = packed
        self.timed = recipe.minutes is not None
        self.record: dict[str, Any] = {
            "recipe": recipe.model_dump(mode="json"),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        self._saved = time.monotonic()

    def report(self, phase: str) -> Report:
        def write(step: int, steps: int, metrics: dict[str, float]) -> None:
            self.watch(phase, step, steps, metrics)
            line: dict[str, Any] = {"phase": phase, "step": step, "seconds": round(self.clock.seconds(), 1)}
            line |= {k: round(v, 5) for k, v in metrics.items()}
            append_lines(self.folder / "metrics.jsonl", [json.dumps(line)])

        return write

    def phase(self, name: str, seconds: float, steps: int) -> Progress:
        """The progress of a phase that begins now, if no earlier session began it: by the clock or by steps."""
        began = self.clock.begin(name)
        if self.timed:
            return lambda step: (self.clock.seconds() - began) / max(1e-3, seconds)
        return lambda step: step / max(1, steps)

    def due(self) -> bool:
        """Whether it is time to save; then the next time is ``save_seconds`` later."""
        if time.monotonic() - self._saved < self.recipe.save_seconds:
            return False
        self._saved = time.monotonic()
        return True

    def pack(self) -> None:
        if self.packed is not None:
            pack(self.folder, PACKED, self.packed)

    def attempt(self, name: str, work: Callable[[], None]) -> None:
        """What is only for looking at must not end a training: its failure is recorded."""
        try:
            work()
        except Exception:  # whatever it is
            self.record.setdefault("failures", {})[name] = traceback.format_exc(limit=4)
            print(f"{name} failed:\n{traceback.format_exc(limit=4)}", flush=True)

    @property
    def reserve(self) -> float:
        """Seconds kept for the last measurements, saving and samples."""
        limit = self.clock.limit or 0.0
        return 30.0 if self.device.type == "cuda" else min(120.0, 0.2 * limit)


def _metrics(folder: Path, phase: str, key: str, most: int = 200) -> list[list[float]]:
    """[step, value] of what was reported, thinned."""
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    found = [[r["step"], r[key]] for r in rows if r["phase"] == phase and key in r]
    return found[:: -(-len(found) // most)] if found else []


def _held_out(bank: Bank) -> Chunk:
    chunks = bank.held_out()
    return Chunk(
        np.concatenate([c.pictures for c in chunks]),
        np.concatenate([c.inside for c in chunks]),
        np.concatenate([c.tokens for c in chunks]),
    )


def _fill(run: Run, bank: Bank, examples: Examples, until: int) -> None:
    """Take in pictures until there are ``until``; waits for them."""
    while examples.count < until and (chunk := bank.next()) is not None:
        examples.add(chunk, None)
        run.watch("pictures", examples.count, until, {})


def _latent_moments(autoencoder: AutoencoderKL, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent channel over some pictures."""
    latents = encode(autoencoder, pictures[:2048])
    return latents.mean((0, 2, 3)), latents.std((0, 2, 3))


def _autoencoder(run: Run, bank: Bank, examples: Examples, kept: Weights | None) -> AutoencoderKL:
    """The autoencoder with normalised latents: that of an earlier session, the start's own, or trained now."""
    recipe, path = run.recipe, run.folder / "autoencoder.safetensors"
    torch.manual_seed(recipe.seed)
    autoencoder = new_autoencoder()
    initialise(autoencoder)
    if kept is not None:
        autoencoder.load_state_dict(kept)
    if path.exists():
        autoencoder.load_state_dict(read_tensors(path))
    autoencoder = autoencoder.to(run.device)
    if not path.exists() and recipe.trains_autoencoder:
        share = recipe.autoencoder_share * (run.clock.limit or 0.0)
        progress = run.phase("autoencoder", share, recipe.autoencoder_steps)
        where = run.folder / "autoencoder-state.safetensors"
        trainee = Trainee(
            [autoencoder], where, recipe.autoencoder_lr, 0.995, progress,
            warmup=100, decay=0.4, half=recipe.half, moments=run.device.type == "cpu",
        )  # fmt: skip
        if recipe.compile:
            autoencoder.encoder.compile()
            autoencoder.decoder.compile()

        def every() -> None:
            if run.timed and examples.count + recipe.chunk <= examples.room and bank.ready():
                _fill(run, bank, examples, examples.count + 1)
            if run.due():
                trainee.save()
                run.clock.save()

        pictures = lambda: examples.pictures[: examples.count]  # noqa: E731
        train_autoencoder(
            autoencoder, pictures, trainee, recipe.autoencoder_batch, recipe.seed, every, run.report("autoencoder")
        )
        trainee.save()
        run.record["autoencoder_steps"] = trainee.step
        autoencoder = new_autoencoder()  # one that was never compiled, in single precision
        autoencoder.load_state_dict(trainee.state_dict(0, average=True))
        autoencoder = autoencoder.to(run.device)
        normalise(autoencoder, *_latent_moments(autoencoder, examples.pictures[: examples.count]))
    write_tensors(path, autoencoder.state_dict())
    return autoencoder.eval().requires_grad_(False)


def _denoiser(
    run: Run, bank: Bank, examples: Examples, latents: Latents, held: Chunk, start: dict[str, Weights]
) -> None:
    recipe, folder, autoencoder = run.recipe, run.folder, latents.autoencoder
    torch.manual_seed(recipe.seed)
    unet, text_encoder = new_unet(), new_text_encoder()
    if start:
        unet.load_state_dict(start["unet"])
        text_encoder.load_state_dict(start["text_encoder"])
    unet, text_encoder = unet.to(run.device), text_encoder.to(run.device)
    left = (run.clock.limit or 0.0) - run.reserve - run.clock.begin("denoiser")
    progress = run.phase("denoiser", left, recipe.steps)
    trainee = Trainee(
        [unet, text_encoder], folder / "denoiser.safetensors", recipe.lr, recipe.ema, progress,
        half=recipe.half, moments=run.device.type == "cpu",
    )  # fmt: skip
    task = Denoising(unet, text_encoder, new_scheduler())
    if recipe.compile:
        task.predict = torch.compile(unet)
    held_latents = encode(autoencoder, torch.from_numpy(held.pictures).to(run.device))
    held_tokens = torch.from_numpy(held.tokens[:, 0]).long().to(run.device)

    def measure() -> None:
        with trainee.averaged():
            value = task.held_out(held_latents, held_tokens)
        run.report("held out")(trainee.step, trainee.step, {"loss": value})

    def save() -> None:
        run.clock.save()
        if run.device.type == "cpu":
            trainee.save()
        raw = {"unet": trainee.state_dict(0, average=False), "text_encoder": trainee.state_dict(1, average=False)}
        write_state(folder / "state", raw, trainee.step)
        run.record |= {
            "pictures_seen": trainee.step * recipe.batch,
            "distinct_pictures": examples.count,
            "steps": trainee.step,
            "seconds": round(run.clock.seconds(), 1),
            "phases_began_at": run.clock.began,
            "held_out_loss": _metrics(folder, "held out", "loss"),
            "loss": _metrics(folder, "denoiser", "loss"),
        }
        averages = trainee.state_dict(0, average=True), trainee.state_dict(1, average=True)
        write_base(folder / "base", *averages, autoencoder, run.record)
        write_json(folder / "training.json", run.record)
        run.attempt("pack", run.pack)

    def every() -> None:
        if run.timed and bank.ready() and (chunk := bank.next()) is not None:
            latents.take_in(examples, chunk)
        if run.due():
            run.attempt("held out", measure)
            save()

    train_denoiser(task, examples, trainee, recipe.batch, recipe.seed, every, run.report("denoiser"))
    run.attempt("held out", measure)
    save()
    bank.close()

    def look() -> None:
        captions = sample_captions(recipe.samples)
        with trainee.averaged():
            batch = 64 if run.device.type == "cuda" else 8
            sheet = sample_sheet(task, autoencoder, captions, lambda: run.clock.left() > 0.25 * run.reserve, batch)
        if sheet is not None:
            save_png(sheet, folder / "samples.png")
            write_json(folder / "samples.json", captions)

    run.clock.begin("samples")
    run.attempt("samples", look)


def _workers(device: torch.device) -> int:
    """One process a core; on an accelerator's machine one core is left to the training."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1) if device.type == "cuda" else cores


def train_world(
    output: Path,
    recipe: WorldTraining,
    device: str,
    watch: Watch,
    *,
    started: float | None = None,
    packed: Path | None = None,
) -> Path:
    """Train the embedded base in ``output``; returns the folder of the finished pipeline.

    Args:
        watch: is told phase, step, steps and metrics.
        started: `time.monotonic` when the minutes began to count; now if not given.
        packed: a folder that gets all results as one archive in pieces under 16 MiB, each time they are saved.

    Raises:
        InputError: a device or a start that is not there, or a folder of something else; nothing has been written.
    """
    quiet_loading()
    there = device_named(device)
    start = starting_weights(recipe.start)
    folder = claim_folder(output, recipe, changeable=("steps", "minutes", "samples", "save_seconds"))
    if there.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    clock = Clock(folder / "clock.json", recipe.minutes, started or time.monotonic())
    run = Run(folder, recipe, there, watch, clock, packed)
    on_cpu = there.type == "cpu"
    bank = Bank(
        folder / "bank", recipe.pictures, recipe.captions, recipe.held_out, recipe.chunk, _workers(there),
        keep=on_cpu, skip=run.timed,
    )  # fmt: skip
    try:
        examples = Examples(recipe.pictures, recipe.autoencoder_pictures, recipe.captions, there)
        held = _held_out(bank)
        _fill(run, bank, examples, min(FIRST_PICTURES, examples.room) if run.timed else examples.room)
        autoencoder = _autoencoder(run, bank, examples, start.get("vae"))

        def inspect() -> None:
            pictures = torch.from_numpy(held.pictures)
            run.record["autoencoder_psnr_db"] = psnr = round(held_out_psnr(autoencoder, pictures), 2)
            run.report("autoencoder held out")(0, 0, {"psnr": psnr})
            save_png(round_trip_sheet(autoencoder, pictures[:8]), folder / "autoencoder.png")

        run.attempt("autoencoder held out", inspect)
        clock.begin("latents")
        latents = Latents(autoencoder, folder / "latents", keep=on_cpu)
        latents.encode_all(examples, recipe.chunk, lambda done, total: run.watch("latents", done, total, {}))
        while not run.timed and (chunk := bank.next()) is not None:
            latents.take_in(examples, chunk)
            run.watch("latents", examples.count, recipe.pictures, {})
        _denoiser(run, bank, examples, latents, held, start)
    finally:
        bank.close()
    run.record["seconds"] = round(clock.seconds(), 1)
    for target in (folder / "training.json", folder / "base" / "training.json"):
        write_json(target, run.record)
    run.attempt("pack", run.pack)
    return folder / "base"
