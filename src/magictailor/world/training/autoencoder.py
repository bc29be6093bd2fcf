"""The autoencoder: trained on random crops, at the end on whole pictures; then its latents are normalised."""

import time
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from torch import Tensor, nn

from magictailor.world.embedded import CHANNELS, SIZE
from magictailor.world.training.bank import to_pixels
from magictailor.world.training.state import Report, Trainee, generator

CROP = 64
WHOLE = 0.7  # from this share of the training on, whole pictures
KL_WEIGHT = 3e-5  # per element; a large one blurs
_HAAR = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2


def _copy_path(weight: Tensor, gain: float = 0.3) -> None:
    """A convolution that hands on its input, beside a little noise."""
    kept = torch.empty_like(weight)
    nn.init.dirac_(kept)
    weight.copy_(kept + gain / weight[0].numel() ** 0.5 * torch.randn_like(weight))


@torch.no_grad()
def initialise(autoencoder: AutoencoderKL) -> None:
    """Begin as a linear code: residual branches are zero, down-sampling is a Haar transform, all else hands on.

    From its usual initialisation the same network needs many times as long.
    """
    for module in autoencoder.modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
            if module.conv_shortcut is not None:
                rows, columns = module.conv_shortcut.weight.shape[:2]
                nn.init.zeros_(module.conv_shortcut.weight)
                nn.init.zeros_(module.conv_shortcut.bias)
                for row in range(rows):  # a copy, then its negative: SiLU(x) - SiLU(-x) = x
                    module.conv_shortcut.weight[row, row % columns] = 1.0 if row < columns else -1.0
        elif isinstance(module, Downsample2D):
            weight = module.conv.weight  # padded right and below: its first 2 x 2 taps see one block
            nn.init.zeros_(weight)
            nn.init.zeros_(module.conv.bias)
            for row in range(weight.shape[0]):
                weight[row, row // 4, :2, :2] = _HAAR[row % 4].reshape(2, 2)
        elif isinstance(module, Upsample2D):
            _copy_path(module.conv.weight)
            nn.init.zeros_(module.conv.bias)
    first = autoencoder.encoder.conv_in
    first.weight.mul_(0.5)
    nn.init.zeros_(first.bias)
    for colour in range(3):
        first.weight[colour] = 0
        first.weight[colour, colour, 1, 1] = 1
    _copy_path(autoencoder.decoder.conv_in.weight)
    autoencoder.quant_conv.weight[CHANNELS:] *= 0.1
    autoencoder.quant_conv.bias[CHANNELS:] = -6  # log variance


@torch.no_grad()
def normalise(autoencoder: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Fold each latent channel's ``mean`` and ``std``, [16], into the two 1 x 1 convolutions: the same pictures come out."""
    before, after = autoencoder.quant_conv, autoencoder.post_quant_conv
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= std[None, :, None, None]
    before.weight[:CHANNELS] /= std[:, None, None, None]
    before.bias[:CHANNELS] = (before.bias[:CHANNELS] - mean) / std
    before.bias[CHANNELS:] -= 2 * std.log()


def reconstruction_loss(decoded: Tensor, pixels: Tensor) -> Tensor:
    """L1 and L2 of pixels, and L1 of their differences, which keeps edges crisp."""
    error = decoded - pixels
    dx, dy = error.diff(dim=-1), error.diff(dim=-2)
    return error.abs().mean() + error.square().mean() + 0.5 * (dx.abs().mean() + dy.abs().mean())


def crops(pictures: Tensor, count: int, side: int, random: torch.Generator) -> Tensor:
    """``count`` squares of ``side`` pixels from pictures uint8 [N, S, S, 3]: float [count, 3, side, side] in [-1, 1]."""
    device = pictures.device
    chosen = torch.randint(len(pictures), (count, 1, 1), generator=random, device=device)
    corners = torch.randint(pictures.shape[1] - side + 1, (2, count, 1, 1), generator=random, device=device)
    along = torch.arange(side, device=device)
    return to_pixels(pictures[chosen, corners[0] + along[:, None], corners[1] + along[None, :]])


def train_autoencoder(
    autoencoder: AutoencoderKL,
    pictures: Callable[[], Tensor],
    trainee: Trainee,
    batch: int,
    seed: int,
    every: Callable[[], None],
    report: Report,
) -> None:
    """Train until ``trainee`` is done; its average is the result.

    ``pictures`` gives those there are, uint8 [N, S, S, 3] on the device; ``every`` is called after each step.
    """
    device = next(autoencoder.parameters()).device
    began, first = time.monotonic(), trainee.step
    while not trainee.done():
        random = generator(seed, trainee.step, device)
        whole = trainee.progress(trainee.step) >= WHOLE
        pixels = crops(pictures(), batch // 4 if whole else batch, SIZE if whole else CROP, random)
        with torch.autocast(device.type, torch.bfloat16, enabled=not trainee.half):
            posterior = autoencoder.encode(pixels.to(trainee.parameters[0].dtype)).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            noise = torch.randn(mean.shape, generator=random, device=device)
            latents = mean + (0.5 * logvar).exp() * noise
            decoded = autoencoder.decode(latents.to(trainee.parameters[0].dtype)).sample.float()
        loss = reconstruction_loss(decoded, pixels)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        trainee.update(loss + KL_WEIGHT * kl)
        if trainee.step % 50 == 0:
            psnr = -10 * torch.log10((decoded.detach() - pixels).square().mean() / 4)
            speed = (trainee.step - first) * batch / 4 / (time.monotonic() - began)
            metrics = {"loss": trainee.check(loss), "kl": kl.item(), "psnr": psnr.item(), "pictures_per_second": speed}
            report(trainee.step, trainee.step, metrics)
        every()


@torch.no_grad()
def encode(autoencoder: AutoencoderKL, pictures: Tensor, batch: int = 128) -> Tensor:
    """Posterior means of pictures uint8 [N, S, S, 3]: float [N, 16, S / 8, S / 8], on the autoencoder's device."""
    device = next(autoencoder.parameters()).device
    parts = []
    with torch.autocast(device.type, torch.bfloat16):
        for part in torch.split(pictures, batch):
            parts.append(autoencoder.encode(to_pixels(part.to(device))).latent_dist.mean.float())
    return torch.cat(parts)


@torch.no_grad()
def round_trip(autoencoder: AutoencoderKL, pictures: Tensor, batch: int = 32) -> Tensor:
    """Pictures uint8 [N, S, S, 3] through the autoencoder: float [N, 3, S, S] in [-1, 1]."""
    device = next(autoencoder.parameters()).device
    parts = []
    for part in torch.split(pictures, batch):
        latents = autoencoder.encode(to_pixels(part.to(device))).latent_dist.mean
        parts.append(autoencoder.decode(latents).sample.float().clamp(-1, 1))
    return torch.cat(parts)


def held_out_psnr(autoencoder: AutoencoderKL, pictures: Tensor) -> float:
    """Peak signal-to-noise ratio of whole pictures uint8 [N, S, S, 3] through the autoencoder, in dB, over all pixels."""
    decoded = round_trip(autoencoder, pictures)
    error = (decoded - to_pixels(pictures.to(decoded.device))).square().mean()
    return float(-10 * torch.log10(error / 4))
