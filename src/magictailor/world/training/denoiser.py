"""The denoiser and its text encoders, trained together on latents and captions."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from magictailor.world import embedded, embedded_dit
from magictailor.world.training.examples import Examples
from magictailor.world.training.graph import Graph
from magictailor.world.training.state import Log, Trainee, autocast, generator

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # of a loss: latents, tokens, weights, times and noise


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


class Denoising(ABC):
    """The training loss and the held-out loss of a denoiser, the first of ``networks``, and its text encoders."""

    def __init__(self, networks: Mapping[str, Any]) -> None:
        self.networks = networks
        self.denoiser: Any = next(iter(networks.values()))
        self.device = next(self.denoiser.parameters()).device
        self.predict: Callable[..., Any] = self.denoiser  # or its compiled version

    @abstractmethod
    def times(self, count: int, random: torch.Generator) -> Tensor:
        """``count`` random times, one from each of as many parts of equal probability, in random order."""

    @abstractmethod
    def error(self, latents: Tensor, tokens: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """The squared error of the prediction for ``latents`` [N, 16, 16, 16] and ``tokens`` [N, 77] at ``times`` [N]."""

    def draws(self, latents: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random times, and noise of the latents' shape."""
        return self.times(len(latents), random), torch.randn(latents.shape, generator=random, device=self.device)

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, enabled=self.denoiser.dtype == torch.float32)

    def loss(self, latents: Tensor, tokens: Tensor, weights: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """The weighted loss; ``weights`` [N, 1, 16, 16] are divided by their mean."""
        return (weights / weights.mean() * self.error(latents, tokens, times, noise)).mean()

    @torch.no_grad()
    def held_out(self, latents: Tensor, tokens: Tensor, batch: int = 128) -> float:
        """The unweighted loss on given latents with fixed times and noise."""
        total = torch.zeros((), device=self.device)
        for i, (z, ids) in enumerate(zip(torch.split(latents, batch), torch.split(tokens, batch), strict=True)):
            total += self.error(z, ids, *self.draws(z, generator(0, i, self.device))).mean() * len(z)
        return total.item() / len(latents)


class Velocity(Denoising):
    """A U-Net that predicts v, with one text encoder."""

    def __init__(self, networks: Mapping[str, Any]) -> None:
        super().__init__(networks)
        scheduler = embedded.new_scheduler()
        self.density = time_density(scheduler).to(self.device)
        alphas = scheduler.alphas_cumprod.float().to(self.device)
        self.signal, self.noise = alphas.sqrt(), (1 - alphas).sqrt()
        self.denoiser.to(memory_format=torch.channels_last)
        if self.device.type == "cpu":  # there the backward pass of fused attention is slow at these small sizes
            self.denoiser.set_attn_processor(AttnProcessor())
            networks["text_encoder"].set_attn_implementation("eager")

    def times(self, count: int, random: torch.Generator) -> Tensor:
        return stratified_times(count, self.density, random)

    def error(self, latents: Tensor, tokens: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """(v - v_theta(z_t, t, e))^2"""
        signal, spread = self.signal[times][:, None, None, None], self.noise[times][:, None, None, None]
        dtype = self.denoiser.dtype
        noisy = (signal * latents + spread * noise).to(dtype, memory_format=torch.channels_last)
        with self._autocast():
            text = self.networks["text_encoder"](input_ids=tokens).last_hidden_state
            predicted = self.predict(noisy, times, encoder_hidden_states=text.to(dtype), return_dict=False)[0]
        velocity = signal * noise - spread * latents
        return (predicted.float() - velocity).square()


class Flow(Denoising):
    """A transformer that predicts noise - image, with two text encoders, as `StableDiffusion3Pipeline` reads them."""

    def times(self, count: int, random: torch.Generator) -> Tensor:
        """Logit-normal (Esser 2024)."""
        device = self.device
        u = (torch.arange(count, device=device) + torch.rand(count, generator=random, device=device)) / count
        u = u[torch.randperm(count, generator=random, device=device)]
        return torch.special.ndtri(u.clamp(1e-5, 1 - 1e-5)).sigmoid()

    def error(self, latents: Tensor, tokens: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """(noise - z - f_theta(z_t, t, e))^2"""
        t, dtype = times[:, None, None, None], self.denoiser.dtype
        with self._autocast():
            sequence, pooled = self._encode(tokens[:, : embedded_dit.LENGTH])
            predicted = self.predict(
                ((1 - t) * latents + t * noise).to(dtype), sequence.to(dtype), pooled.to(dtype), times * 1000,
                return_dict=False,
            )[0]  # fmt: skip
        return (predicted.float() - (noise - latents)).square()

    def _encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The last layers but one side by side, as many zeros for the text encoder that is left out, and both pooled."""
        outputs = [n(tokens, output_hidden_states=True) for k, n in self.networks.items() if k.startswith("text")]
        sequence = torch.cat([out.hidden_states[-2] for out in outputs], -1)
        pooled = torch.cat([out.text_embeds for out in outputs], -1)
        return torch.cat([sequence, torch.zeros_like(sequence)], 1), pooled


@dataclass(frozen=True)
class Architecture:
    """A kind of embedded base: its networks, the pipeline that they make, and how they are trained."""

    new_networks: Callable[[], dict[str, Any]]
    assemble: Callable[[Mapping[str, Any], AutoencoderKL], Any]
    denoising: Callable[[Mapping[str, Any]], Denoising]


ARCHITECTURES = {
    "unet": Architecture(embedded.new_networks, embedded.assemble, Velocity),
    "dit": Architecture(embedded_dit.new_networks, embedded_dit.assemble, Flow),
}


def passes(task: Denoising, trainee: Trainee, example: Inputs) -> Callable[..., Tensor]:
    """A function of the loss's arguments that leaves gradients in the trainee's parameters and returns the loss."""

    def run(*inputs: Tensor) -> Tensor:
        trainee.clear()
        loss = task.loss(*inputs)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return Graph(run, example) if task.device.type == "cuda" and trainee.half else run


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

    def inputs() -> Inputs:
        random = generator(seed, trainee.step, task.device)
        latents, tokens, weights = examples.batch(batch, random)
        return latents, tokens, weights, *task.draws(latents, random)

    forward_and_backward = passes(task, trainee, inputs())
    began, first = time.monotonic(), trainee.step
    while not trainee.done():
        loss = forward_and_backward(*inputs())
        trainee.descend()
        if trainee.step % 50 == 0:
            speed = (trainee.step - first) * batch / (time.monotonic() - began)
            metrics = {"loss": trainee.check(loss), "samples_per_second": speed, "pictures": float(examples.count)}
            log(trainee.step, metrics)
        after_step()
