"""The autoencoder: trained on random crops, at the end on whole images; then its latents are normalised."""

import time
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from torch import Tensor, nn

from magictailor.world.embedded import CHANNELS, SIZE
from magictailor.world.pixels import to_pixels
from magictailor.world.training.state import Log, Trainee, autocast, generator

CROP = 64
WHOLE = 0.7  # fraction of the training after which it uses whole images
KL_WEIGHT = 3e-5  # per element; a large weight blurs
_HAAR = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2


def _identity(weight: Tensor, gain: float = 0.3) -> None:
    """Initialise a convolution as the identity, with a little noise."""
    identity = torch.empty_like(weight)
    nn.init.dirac_(identity)
    weight.copy_(identity + gain / weight[0].numel() ** 0.5 * torch.randn_like(weight))


@torch.no_grad()
def initialise(autoencoder: AutoencoderKL) -> None:
    """Start as a linear code: residual branches are zero, down-sampling is a Haar transform, the rest is the identity.

    Training converges many times faster than from the usual initialisation.
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
            _identity(module.conv.weight)
            nn.init.zeros_(module.conv.bias)
    first = autoencoder.encoder.conv_in
    first.weight.mul_(0.5)
    nn.init.zeros_(first.bias)
    for channel in range(3):
        first.weight[channel] = 0
        first.weight[channel, channel, 1, 1] = 1
    _identity(autoencoder.decoder.conv_in.weight)
    autoencoder.quant_conv.weight[CHANNELS:] *= 0.1
    autoencoder.quant_conv.bias[CHANNELS:] = -6  # log variance


@torch.no_grad()
def normalise(autoencoder: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Fold each latent channel's ``mean`` and ``std``, [16], into the two 1 x 1 convolutions; decoded images stay the same."""
    before, after = autoencoder.quant_conv, autoencoder.post_quant_conv
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= std[None, :, None, None]
    before.weight[:CHANNELS] /= std[:, None, None, None]
    before.bias[:CHANNELS] = (before.bias[:CHANNELS] - mean) / std
    before.bias[CHANNELS:] -= 2 * std.log()


def reconstruction_loss(decoded: Tensor, pixels: Tensor) -> Tensor:
    """L1 and L2 of the pixels, and L1 of their gradients, which keeps edges crisp."""
    error = decoded - pixels
    dx, dy = error.diff(dim=-1), error.diff(dim=-2)
    return error.abs().mean() + error.square().mean() + 0.5 * (dx.abs().mean() + dy.abs().mean())


def crops(images: Tensor, count: int, side: int, random: torch.Generator) -> Tensor:
    """``count`` squares of ``side`` pixels from images uint8 [N, S, S, 3]: float [count, 3, side, side] in [-1, 1]."""
    device = images.device
    chosen = torch.randint(len(images), (count, 1, 1), generator=random, device=device)
    corners = torch.randint(images.shape[1] - side + 1, (2, count, 1, 1), generator=random, device=device)
    along = torch.arange(side, device=device)
    return to_pixels(images[chosen, corners[0] + along[:, None], corners[1] + along[None, :]])


def train_autoencoder(
    autoencoder: AutoencoderKL,
    images: Callable[[], Tensor],
    trainee: Trainee,
    batch: int,
    seed: int,
    after_step: Callable[[], None],
    log: Log,
) -> None:
    """Train until ``trainee`` is done; the result is its average.

    ``images`` returns the current training images, uint8 [N, S, S, 3] on the device.
    """
    device = next(autoencoder.parameters()).device
    began, first = time.monotonic(), trainee.step
    while not trainee.done():
        random = generator(seed, trainee.step, device)
        whole = trainee.fraction_done(trainee.step) >= WHOLE
        pixels = crops(images(), batch // 4 if whole else batch, SIZE if whole else CROP, random)
        with autocast(device, enabled=not trainee.half):
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
            log(trainee.step, metrics)
        after_step()


@torch.no_grad()
def encode(autoencoder: AutoencoderKL, images: Tensor, batch: int = 128) -> Tensor:
    """Posterior means of images uint8 [N, S, S, 3]: float [N, 16, S / 8, S / 8], on the autoencoder's device."""
    device = next(autoencoder.parameters()).device
    parts = []
    with autocast(device):
        for part in torch.split(images, batch):
            parts.append(autoencoder.encode(to_pixels(part.to(device))).latent_dist.mean.float())
    return torch.cat(parts)


@torch.no_grad()
def round_trip(autoencoder: AutoencoderKL, images: Tensor, batch: int = 32) -> Tensor:
    """Images uint8 [N, S, S, 3], encoded and decoded: float [N, 3, S, S] in [-1, 1]."""
    device = next(autoencoder.parameters()).device
    parts = []
    for part in torch.split(images, batch):
        latents = autoencoder.encode(to_pixels(part.to(device))).latent_dist.mean
        parts.append(autoencoder.decode(latents).sample.float().clamp(-1, 1))
    return torch.cat(parts)


def held_out_psnr(autoencoder: AutoencoderKL, images: Tensor) -> float:
    """Peak signal-to-noise ratio of encoded and decoded images uint8 [N, S, S, 3], in dB, over all pixels."""
    decoded = round_trip(autoencoder, images)
    error = (decoded - to_pixels(images.to(decoded.device))).square().mean()
    return float(-10 * torch.log10(error / 4))
