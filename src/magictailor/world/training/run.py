"""The whole recipe of the embedded base, resumable: run the same command again to go on."""

import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from pydantic import Field
from torch import Tensor

from magictailor.files import append_lines, write_json
from magictailor.pictures import grid, save_png
from magictailor.processes import device_named
from magictailor.recipe import Part
from magictailor.sampling import sample
from magictailor.tensors import read_tensors, write_tensors
from magictailor.world.captions import caption, caption_rng
from magictailor.world.checks import FIRST_SEED, BindingCheck, binding_checks, component_checks
from magictailor.world.embedded import (
    SIZE,
    assemble,
    load_embedded,
    new_autoencoder,
    new_scheduler,
    new_text_encoder,
    new_unet,
)
from magictailor.world.pairs import RANGES
from magictailor.world.scene import random_scene
from magictailor.world.tokenizer import build_tokenizer
from magictailor.world.training.autoencoder import held_out_psnr, train_autoencoder
from magictailor.world.training.bank import draw_bank, drawn, encode_bank, importance
from magictailor.world.training.denoiser import Denoising, train_denoiser
from magictailor.world.training.state import Report, Trainee, claim_folder

HELD_OUT = 512
Watch = Callable[[str, int, int, dict[str, float]], None]


class WorldTraining(Part):
    """The recipe. ``steps`` and ``batch`` are the denoiser's; a picture's seed is its number."""

    pictures: int = Field(80_000, ge=1000, lt=RANGES["tuning"])
    autoencoder_steps: int = Field(4_200, ge=1)
    autoencoder_rate: float = Field(2e-3, gt=0, le=1)
    steps: int = Field(10_000, ge=1)
    batch: int = Field(64, ge=1, le=65_536)
    rate: float = Field(1e-3, gt=0, le=1)
    ema: float = Field(0.998, ge=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**32)
    start: Literal["scratch", "embedded"] = "scratch"  # embedded: from the shipped weights with a new warm-up
    sheet_every: int = Field(500, ge=1)


class _Run:
    """Paths, progress and the record of one training folder."""

    def __init__(self, folder: Path, recipe: WorldTraining, device: torch.device, watch: Watch) -> None:
        self.folder, self.recipe, self.device, self.watch = folder, recipe, device, watch
        self.started = time.monotonic()

    def report(self, phase: str) -> Report:
        def write(step: int, steps: int, figures: dict[str, float]) -> None:
            self.watch(phase, step, steps, figures)
            line = {"phase": phase, "step": step, "seconds": round(time.monotonic() - self.started, 1), **figures}
            append_lines(self.folder / "metrics.jsonl", [json.dumps(line)])

        return write

    def progress(self, phase: str) -> Callable[[int, int], None]:
        return lambda done, total: self.watch(phase, done, total, {})


def _seconds(folder: Path, phase: str) -> float:
    """Wall time of a phase over all sessions, from the metrics' stamps (a session starts at 0 again)."""
    total = last = 0.0
    path = folder / "metrics.jsonl"  # a very short training has none
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        row = json.loads(line)
        if row["phase"] == phase:
            total += max(0.0, row["seconds"] - last) if row["seconds"] >= last else row["seconds"]
        last = row["seconds"]
    return total


def _held_out() -> tuple[np.ndarray, list[str]]:  # type: ignore[type-arg]
    seeds = range(FIRST_SEED, FIRST_SEED + HELD_OUT)
    pictures = np.stack([drawn(s) for s in seeds])
    return pictures, [caption(random_scene(s), caption_rng(s, 0)) for s in seeds]


def _autoencoder_phase(run: _Run, pictures: np.ndarray, held: np.ndarray) -> tuple[AutoencoderKL, float]:  # type: ignore[type-arg]
    recipe = run.recipe
    torch.manual_seed(recipe.seed)
    autoencoder = new_autoencoder()
    if recipe.start == "embedded":
        autoencoder.load_state_dict(load_embedded().vae.state_dict())
    autoencoder = autoencoder.to(run.device)
    path = run.folder / "autoencoder.safetensors"
    trainee = Trainee([autoencoder], path, recipe.autoencoder_rate, 0.999, recipe.autoencoder_steps)
    train_autoencoder(autoencoder, pictures, trainee, recipe.seed, run.report("autoencoder"))
    trainee.swap()
    autoencoder.eval()
    return autoencoder, held_out_psnr(autoencoder, held)


def _latents(run: _Run, autoencoder: AutoencoderKL, pictures: np.ndarray) -> Tensor:  # type: ignore[type-arg]
    path = run.folder / "latents.safetensors"
    if not path.exists():
        write_tensors(path, {"latents": encode_bank(autoencoder, pictures, run.device, run.progress("latents"))})
    return read_tensors(path)["latents"]


def pictures_of(pipeline: StableDiffusionPipeline, checks: list[BindingCheck], seed: int = 0) -> list[Image.Image]:
    """A generated picture of each check, with a seed of its own."""
    seeds = [seed * 1000 + i for i in range(len(checks))]
    return list(sample(pipeline, [c.caption for c in checks], seeds, 25, 4.0, SIZE, 16))


def sheet(pipeline: StableDiffusionPipeline, checks: list[BindingCheck], seed: int = 0) -> Image.Image:
    """Generated pictures of the checks, eight a row."""
    pictures = pictures_of(pipeline, checks, seed)
    return grid([pictures[i : i + 8] for i in range(0, len(pictures), 8)], cell=128)


def train_world(folder: Path, recipe: WorldTraining, device: str, watch: Watch) -> Path:
    """Train the embedded base in ``folder``; returns the finished pipeline's folder.

    Raises:
        InputError: a device that is not there, or a folder of something else; nothing has been written.

    Phases: pictures are drawn, the autoencoder learns crops, all pictures become latents, the denoiser and its
    text encoder learn captions. Each goes on where an earlier call stopped.
    """
    there = device_named(device)
    folder = claim_folder(folder, recipe, changeable=("steps", "sheet_every"))
    run = _Run(folder, recipe, there, watch)
    pictures = draw_bank(folder / "pictures", recipe.pictures, run.progress("pictures"))
    held, held_captions = _held_out()
    autoencoder, psnr = _autoencoder_phase(run, pictures, held)
    latents = _latents(run, autoencoder, pictures)
    autoencoder.register_to_config(scaling_factor=round(1 / latents.float().std().item(), 5))
    scale = autoencoder.config.scaling_factor

    torch.manual_seed(recipe.seed)
    unet, text_encoder = new_unet(), new_text_encoder()
    if recipe.start == "embedded":
        shipped = load_embedded()  # the weights alone: its configuration would carry this machine's paths on
        unet.load_state_dict(shipped.unet.state_dict())
        text_encoder.load_state_dict(shipped.text_encoder.state_dict())
    unet, text_encoder = unet.to(run.device), text_encoder.to(run.device)
    task = Denoising(unet, text_encoder, build_tokenizer(), new_scheduler())
    trainee = Trainee([unet, text_encoder], folder / "denoiser.safetensors", recipe.rate, recipe.ema, recipe.steps)
    pipeline = assemble(unet, text_encoder, autoencoder)
    pipeline.set_progress_bar_config(disable=True)
    held_latents = encode_bank(autoencoder, held, run.device, lambda *_: None).float() * scale

    def report(step: int, steps: int, figures: dict[str, float]) -> None:
        run.report("denoiser")(step, steps, figures)
        if step % recipe.sheet_every == 0:
            trainee.swap()
            figures = {"held_out": task.held_out(held_latents, held_captions)}
            run.report("held out")(step, steps, figures)
            save_png(sheet(pipeline, binding_checks(48)), folder / f"sheet-{step:06d}.png")
            trainee.swap()

    weights = importance(pictures, latents.shape[-1])
    train_denoiser(task, latents * scale, weights, trainee, recipe.batch, recipe.seed, report)
    trainee.swap()
    record = {
        "recipe": recipe.model_dump(mode="json"),
        "pictures_seen": {"autoencoder_crops": recipe.autoencoder_steps * 64, "denoiser": trainee.step * recipe.batch},
        "hardware": {
            "device": device,
            "threads": torch.get_num_threads(),
            "machine": platform.processor() or platform.machine(),
        },
        "wall_seconds": {p: round(_seconds(folder, p)) for p in ("autoencoder", "denoiser", "held out")},
        "held_out": {
            "autoencoder_psnr_db": round(psnr, 2),
            "denoiser_loss": round(task.held_out(held_latents, held_captions), 5),
        },
        "versions": {"torch": torch.__version__},
    }
    return save_base(pipeline, folder / "pipeline", record, recipe.seed)


def save_base(pipeline: StableDiffusionPipeline, target: Path, record: Mapping[str, object], seed: int) -> Path:
    """Half-precision safetensors, shards under 10 MB, with the record and its sheets beside them."""
    pipeline.tokenizer = build_tokenizer()  # one that was never used: it would keep the padding it was used with
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(target, max_shard_size="9MB")
    pipeline.to(dtype=torch.float32)
    save_png(sheet(pipeline, binding_checks(), seed), target / "binding.png")
    save_png(sheet(pipeline, component_checks(), seed), target / "components.png")
    write_json(target / "training.json", record)
    return target
