"""Speed of the training steps of the embedded base, on random data: `python benchmarks/world_training.py --device cuda`."""

import argparse
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from magictailor.world.embedded import CHANNELS, SIZE, new_autoencoder
from magictailor.world.training.autoencoder import CROP, crops, initialise, reconstruction_loss
from magictailor.world.training.denoiser import ARCHITECTURES, passes
from magictailor.world.training.rendering import GRID, LENGTH
from magictailor.world.training.state import Trainee, generator


def _speed(step: Callable[[int], Tensor], seconds: float, device: torch.device) -> tuple[float, float]:
    """Steps per second, and the seconds of the first three."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    began = time.monotonic()
    for i in range(3):
        step(i)
    wait()
    first = time.monotonic() - began
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        step(count)
        count += 1
        if count % 4 == 0:
            wait()
    wait()
    return count / (time.monotonic() - began), first


def _trainee(modules: list[nn.Module], half: bool) -> Trainee:
    return Trainee(modules, Path("/nonexistent"), 1e-4, 0.99, lambda step: 0.0, half=half)


def _autoencoder(device: torch.device, batch: int, half: bool, compiled: bool, seconds: float) -> tuple[float, float]:
    autoencoder = new_autoencoder()
    initialise(autoencoder)
    autoencoder = autoencoder.to(device)
    trainee = _trainee([autoencoder], half)
    if compiled:
        autoencoder.encoder.compile()
        autoencoder.decoder.compile()
    images = torch.randint(256, (512, SIZE, SIZE, 3), dtype=torch.uint8, device=device)
    dtype = trainee.parameters[0].dtype

    def step(i: int) -> Tensor:
        pixels = crops(images, batch, CROP, generator(0, i, device))
        with torch.autocast(device.type, torch.bfloat16, enabled=not half):
            decoded = autoencoder.decode(autoencoder.encode(pixels.to(dtype)).latent_dist.mean).sample.float()
        loss = reconstruction_loss(decoded, pixels)
        trainee.update(loss)
        return loss

    return _speed(step, seconds, device)


def _denoiser(
    architecture: str, device: torch.device, batch: int, half: bool, compiled: bool, seconds: float
) -> tuple[float, float]:
    kind = ARCHITECTURES[architecture]
    networks = {name: network.to(device) for name, network in kind.new_networks().items()}
    trainee = _trainee(list(networks.values()), half)
    task = kind.denoising(networks)
    if compiled:
        task.predict = torch.compile(task.denoiser)
    latents = torch.randn(batch, CHANNELS, GRID, GRID, device=device)
    tokens = torch.randint(500, (batch, LENGTH), device=device)
    weights = torch.ones(batch, 1, GRID, GRID, device=device)
    inputs = (latents, tokens, weights, *task.draws(latents, generator(0, 0, device)))
    forward_and_backward = passes(task, trainee, inputs)

    def step(i: int) -> Tensor:
        latents, tokens, weights, *_ = inputs
        loss = forward_and_backward(latents, tokens, weights, *task.draws(latents, generator(0, i, device)))
        trainee.descend()
        return loss

    return _speed(step, seconds, device)


def main() -> None:
    """Print samples per second (whole images for the autoencoder) of each variant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--architecture", default="unet", choices=ARCHITECTURES)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--autoencoder-batch", type=int, default=256)
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    variants = [
        (half, compiled) for half in (False, True) for compiled in ((False, True) if given.compile else (False,))
    ]
    for half, compiled in variants:
        name = f"{'bfloat16' if half else 'autocast'}{', compiled' if compiled else ''}"
        jobs = [("autoencoder", given.autoencoder_batch, 0.25, _autoencoder)]
        jobs += [("denoiser", batch, 1.0, partial(_denoiser, given.architecture)) for batch in given.batches]
        for network, batch, images_per_sample, measure in jobs:
            try:
                speed, first = partial(measure, device, batch, half, compiled, given.seconds)()
                memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
                print(
                    f"{network} {name} batch {batch}: {speed * batch * images_per_sample:.1f} samples/s, "
                    f"{1000 / speed:.1f} ms per step, "
                    f"first steps {first:.1f} s, {memory:.1f} GiB",
                    flush=True,
                )
            except Exception:  # go on with the other variants
                print(f"{network} {name} batch {batch} failed:\n{traceback.format_exc(limit=3)}", flush=True)


if __name__ == "__main__":
    main()
