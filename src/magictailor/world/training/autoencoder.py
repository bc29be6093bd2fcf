"""The autoencoder: trained on random crops, which teach it edges far faster than whole pictures."""

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from magictailor.world.training.bank import to_pixels
from magictailor.world.training.state import Report, Trainee, generator

CROP = 32
BATCH = 64
KL_WEIGHT = 1e-4  # per element; a large one blurs


def reconstruction_loss(decoded: Tensor, pixels: Tensor) -> Tensor:
    """L1 and L2 of pixels, and L1 of their differences, which keeps edges crisp."""
    error = decoded - pixels
    dx, dy = error.diff(dim=-1), error.diff(dim=-2)
    return error.abs().mean() + error.square().mean() + 0.5 * (dx.abs().mean() + dy.abs().mean())


def _crops(pictures: NDArray[np.uint8], random: torch.Generator, device: torch.device) -> Tensor:
    side = pictures.shape[1]
    chosen = torch.randint(len(pictures), (BATCH,), generator=random).numpy()
    corners = torch.randint(side - CROP + 1, (BATCH, 2), generator=random).tolist()
    crops = [pictures[i, y : y + CROP, x : x + CROP] for i, (y, x) in zip(chosen, corners, strict=True)]
    return to_pixels(np.stack(crops), device)


def train_autoencoder(
    autoencoder: AutoencoderKL, pictures: NDArray[np.uint8], trainee: Trainee, seed: int, report: Report
) -> None:
    """Train until ``trainee.steps``; its average is the result."""
    device = next(autoencoder.parameters()).device
    while trainee.step < trainee.steps:
        random = generator(seed, trainee.step)
        pixels = _crops(pictures, random, device)
        with torch.autocast(device.type, torch.bfloat16):
            posterior = autoencoder.encode(pixels).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=random).to(device)
            decoded = autoencoder.decode(posterior.mean + posterior.std * noise).sample
        loss = reconstruction_loss(decoded.float(), pixels)
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        trainee.update(loss + KL_WEIGHT * kl)
        if trainee.step % 50 == 0:
            psnr = -10 * torch.log10((decoded.float() - pixels).square().mean() / 4)
            report(trainee.step, trainee.steps, {"loss": loss.item(), "kl": kl.item(), "psnr": psnr.item()})
    trainee.save()


@torch.no_grad()
def held_out_psnr(autoencoder: AutoencoderKL, pictures: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of whole pictures through the autoencoder, in dB."""
    device = next(autoencoder.parameters()).device
    pixels = to_pixels(pictures, device)
    decoded = autoencoder.decode(autoencoder.encode(pixels).latent_dist.mean).sample
    return float(-10 * torch.log10((decoded.clamp(-1, 1) - pixels).square().mean() / 4))
