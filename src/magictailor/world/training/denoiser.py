"""The denoiser and its text encoder, trained together on latents and captions."""

import time
from collections.abc import Callable

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel

from magictailor.world.training.examples import Examples
from magictailor.world.training.state import Log, Trainee, generator


def time_density(scheduler: DDIMScheduler, cap: float = 5.0) -> Tensor:
    """The probability of each time step in training, [1000], proportional to min(1, cap / (SNR + 1)).

    The v-loss is (SNR + 1) times the loss of the clean image. The cap limits that weight at low noise. Sampling such times
    less often, instead of giving them low weights, saves steps.
    """
    noise = 1 - scheduler.alphas_cumprod  # 1 / (SNR + 1)
    density = (cap * noise).clamp(max=1)
    return density / density.sum()


def stratified_times(count: int, density: Tensor, random: torch.Generator) -> Tensor:
    """One time step from each of ``count`` intervals of equal probability, in random order, on the density's device."""
    device = density.device
    u = (torch.arange(count, device=device) + torch.rand(count, generator=random, device=device)) / count
    times = torch.searchsorted(density.cumsum(0), u).clamp(max=len(density) - 1)
    return times[torch.randperm(count, generator=random, device=device)]


class Denoising:
    """The training loss and the held-out loss of a U-Net and its text encoder."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, scheduler: DDIMScheduler) -> None:
        self.unet, self.text_encoder = unet, text_encoder
        self.device = next(unet.parameters()).device
        self.density = time_density(scheduler).to(self.device)
        alphas = scheduler.alphas_cumprod.float().to(self.device)
        self.signal, self.noise = alphas.sqrt(), (1 - alphas).sqrt()
        unet.to(memory_format=torch.channels_last)
        if self.device.type == "cpu":  # there the backward pass of fused attention is slow at these small sizes
            unet.set_attn_processor(AttnProcessor())
            text_encoder.set_attn_implementation("eager")
        self.predict = unet  # or its compiled version

    def error(self, latents: Tensor, tokens: Tensor, random: torch.Generator) -> Tensor:
        """(v - v_theta(z_t, t, e))^2 for ``latents`` [N, 16, 16, 16] and ``tokens`` [N, 77], with random times and noise."""
        times = stratified_times(len(latents), self.density, random)
        noise = torch.randn(latents.shape, generator=random, device=self.device)
        signal, spread = self.signal[times][:, None, None, None], self.noise[times][:, None, None, None]
        dtype = next(self.unet.parameters()).dtype
        noisy = (signal * latents + spread * noise).to(dtype, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=dtype == torch.float32):
            text = self.text_encoder(input_ids=tokens).last_hidden_state
            predicted = self.predict(noisy, times, encoder_hidden_states=text.to(dtype), return_dict=False)[0]
        velocity = signal * noise - spread * latents
        return (predicted.float() - velocity).square()

    def loss(self, latents: Tensor, tokens: Tensor, weights: Tensor, random: torch.Generator) -> Tensor:
        """The weighted loss; ``weights`` [N, 1, 16, 16] are divided by their mean."""
        return (weights / weights.mean() * self.error(latents, tokens, random)).mean()

    @torch.no_grad()
    def held_out(self, latents: Tensor, tokens: Tensor, batch: int = 128) -> float:
        """The unweighted loss on given latents with fixed times and noise."""
        total = torch.zeros((), device=self.device)
        for i, (z, ids) in enumerate(zip(torch.split(latents, batch), torch.split(tokens, batch), strict=True)):
            total += self.error(z, ids, generator(0, i, self.device)).mean() * len(z)
        return total.item() / len(latents)


def train_denoiser(
    task: Denoising,
    examples: Examples,
    trainee: Trainee,
    batch: int,
    seed: int,
    after_step: Callable[[], None],
    log: Log,
) -> None:
    """Train until ``trainee`` is done. ``after_step`` may add examples and save."""
    began, first = time.monotonic(), trainee.step
    while not trainee.done():
        random = generator(seed, trainee.step, task.device)
        loss = task.loss(*examples.batch(batch, random), random)
        trainee.update(loss)
        if trainee.step % 50 == 0:
            speed = (trainee.step - first) * batch / (time.monotonic() - began)
            metrics = {"loss": trainee.check(loss), "samples_per_second": speed, "pictures": float(examples.count)}
            log(trainee.step, metrics)
        after_step()
