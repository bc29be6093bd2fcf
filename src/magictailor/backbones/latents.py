"""What the families' autoencoders give the denoiser: shape, scale and order of the latents."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor


class Codec(ABC):
    """Between pixels in [-1, 1] and latents as the denoiser is trained on them. ``factor``: pixels a latent, per side."""

    def __init__(self, autoencoder: Any, channels: int, factor: int) -> None:
        self.autoencoder, self.channels, self.factor = autoencoder, channels, factor

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """[C, h, w] of one image of this many pixels."""
        return self.channels, height // self.factor, width // self.factor

    @abstractmethod
    def encode(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """``noise``, of the latents' shape, samples the posterior where the autoencoder has one."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """To pixels in float32."""


def _sampled(posterior: Any, noise: Tensor) -> Tensor:
    return posterior.mean.float() + posterior.std.float() * noise


class Scaled(Codec):
    """`AutoencoderKL`: one shift and one scale for all channels."""

    def __init__(self, autoencoder: Any) -> None:
        config = autoencoder.config
        super().__init__(autoencoder, config.latent_channels, 2 ** (len(config.block_out_channels) - 1))
        self.scale, self.shift_by = float(config.scaling_factor), float(config.shift_factor or 0.0)

    def encode(self, pixels: Tensor, noise: Tensor) -> Tensor:
        posterior = self.autoencoder.encode(pixels.to(self.autoencoder.dtype)).latent_dist
        return (_sampled(posterior, noise) - self.shift_by) * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        vae = self.autoencoder
        overflows = vae.dtype == torch.float16 and vae.config.force_upcast  # SDXL's, in a pipeline of one precision
        if overflows:
            vae.float()
        pixels: Tensor = vae.decode((latents / self.scale + self.shift_by).to(vae.dtype)).sample.float()
        if overflows:
            vae.half()
        return pixels


class Normalised(Codec):
    """`AutoencoderKLFlux2`: 2 x 2 latents are the channels of one, and a batch norm's running statistics normalise them."""

    def __init__(self, autoencoder: Any) -> None:
        config = autoencoder.config
        super().__init__(autoencoder, 4 * config.latent_channels, 2 * 2 ** (len(config.block_out_channels) - 1))

    def _statistics(self) -> tuple[Tensor, Tensor]:
        norm = self.autoencoder.bn
        std = (norm.running_var.float() + self.autoencoder.config.batch_norm_eps).sqrt()
        return norm.running_mean.float()[:, None, None], std[:, None, None]

    def encode(self, pixels: Tensor, noise: Tensor) -> Tensor:
        posterior = self.autoencoder.encode(pixels.to(self.autoencoder.dtype)).latent_dist
        mean, std = self._statistics()
        return (_folded(_sampled(posterior, _unfolded(noise))) - mean) / std

    def decode(self, latents: Tensor) -> Tensor:
        mean, std = self._statistics()
        decoded: Tensor = self.autoencoder.decode(_unfolded(latents * std + mean).to(self.autoencoder.dtype)).sample
        return decoded.float()


def _folded(x: Tensor) -> Tensor:
    """[N, C, h, w] to [N, 4 C, h / 2, w / 2]."""
    return torch.nn.functional.pixel_unshuffle(x, 2)


def _unfolded(x: Tensor) -> Tensor:
    return torch.nn.functional.pixel_shuffle(x, 2)


class OneFrame(Codec):
    """`AutoencoderKLQwenImage`, for videos: an image is one frame; each channel has a mean and a deviation."""

    def __init__(self, autoencoder: Any) -> None:
        config = autoencoder.config
        super().__init__(autoencoder, config.z_dim, 2 ** len(config.temperal_downsample))

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.autoencoder.config
        mean, std = (like.new_tensor(values)[:, None, None] for values in (config.latents_mean, config.latents_std))
        return mean, std

    def encode(self, pixels: Tensor, noise: Tensor) -> Tensor:
        posterior = self.autoencoder.encode(pixels[:, :, None].to(self.autoencoder.dtype)).latent_dist
        sampled = _sampled(posterior, noise[:, :, None])[:, :, 0]
        mean, std = self._statistics(sampled)
        return (sampled - mean) / std

    def decode(self, latents: Tensor) -> Tensor:
        mean, std = self._statistics(latents)
        frames = (latents * std + mean)[:, :, None].to(self.autoencoder.dtype)
        decoded: Tensor = self.autoencoder.decode(frames).sample[:, :, 0]
        return decoded.float()


class WithoutPosterior(Codec):
    """`AutoencoderDC`: deterministic."""

    def __init__(self, autoencoder: Any) -> None:
        config = autoencoder.config
        super().__init__(autoencoder, config.latent_channels, 2 ** (len(config.encoder_block_out_channels) - 1))
        self.scale = float(config.scaling_factor)

    def encode(self, pixels: Tensor, noise: Tensor) -> Tensor:
        latent: Tensor = self.autoencoder.encode(pixels.to(self.autoencoder.dtype)).latent
        return latent.float() * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        decoded: Tensor = self.autoencoder.decode((latents / self.scale).to(self.autoencoder.dtype)).sample
        return decoded.float()
