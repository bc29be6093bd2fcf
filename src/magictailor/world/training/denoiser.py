"""The denoiser and its text encoder, trained together on latents and captions drawn anew each time."""

from collections.abc import Sequence

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from magictailor.world.captions import caption, caption_rng
from magictailor.world.scene import random_scene
from magictailor.world.tokenizer import LENGTH
from magictailor.world.training.bank import emphasis
from magictailor.world.training.state import Report, Trainee, generator


def tokens(tokenizer: CLIPTokenizer, captions: Sequence[str], device: torch.device) -> Tensor:
    """Token numbers, [N, 77]."""
    out = tokenizer(list(captions), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    return out.input_ids.to(device)


def time_density(scheduler: DDIMScheduler, cap: float = 5.0) -> Tensor:
    """How often each time is trained on, [1000]: as min(1, cap / (SNR + 1)).

    v's loss is (SNR + 1) times the clean picture's: the cap holds that weight where there is hardly any noise,
    and drawing such times less often, instead of weighting them, spends no step on them.
    """
    noise = 1 - scheduler.alphas_cumprod  # 1 / (SNR + 1)
    density = (cap * noise).clamp(max=1)
    return density / density.sum()


def stratified_times(count: int, density: Tensor, random: torch.Generator) -> Tensor:
    """One time in each of ``count`` parts of equal probability, in random order: less noise than free draws."""
    u = (torch.arange(count) + torch.rand(count, generator=random)) / count
    times = torch.searchsorted(density.cumsum(0), u).clamp(max=len(density) - 1)
    return times[torch.randperm(count, generator=random)]


def velocity_error(
    unet: UNet2DConditionModel, scheduler: DDIMScheduler, latents: Tensor, text: Tensor, times: Tensor, noise: Tensor
) -> Tensor:
    """(v - v_theta(z_t, t, e))^2, of the latents' shape."""
    noisy = scheduler.add_noise(latents, noise, times)
    predicted = unet(noisy, times, text).sample.float()
    return (predicted - scheduler.get_velocity(latents, noise, times)).square()


class Denoising:
    """The loss of a step, and the held-out loss, of one set of networks."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        scheduler: DDIMScheduler,
    ) -> None:
        self.unet, self.text_encoder, self.tokenizer, self.scheduler = unet, text_encoder, tokenizer, scheduler
        self.device = next(unet.parameters()).device
        self.density = time_density(scheduler)
        if self.device.type == "cpu":  # the fused attention's backward pass is slow there at these small sizes
            unet.set_attn_processor(AttnProcessor())
            text_encoder.set_attn_implementation("eager")
            unet.to(memory_format=torch.channels_last)

    def loss(self, latents: Tensor, captions: Sequence[str], weights: Tensor | None, random: torch.Generator) -> Tensor:
        """``latents``: scaled, [N, 4, 16, 16]; ``weights``: how much each one's error counts, [N, 1, 16, 16]."""
        times = stratified_times(len(latents), self.density, random).to(self.device)
        noise = torch.randn(latents.shape, generator=random).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            text = self.text_encoder(tokens(self.tokenizer, captions, self.device)).last_hidden_state
            error = velocity_error(self.unet, self.scheduler, latents.to(self.device), text, times, noise)
        return error.mean() if weights is None else (weights.to(self.device) * error).mean()

    @torch.no_grad()
    def held_out(self, latents: Tensor, captions: Sequence[str]) -> float:
        """The plain loss on given pictures with fixed times and noise."""
        total = 0.0
        for i in range(0, len(latents), 64):
            part = self.loss(latents[i : i + 64], captions[i : i + 64], None, generator(0, i))
            total += part.item() * len(latents[i : i + 64])
        return total / len(latents)


def train_denoiser(
    task: Denoising, latents: Tensor, weights: Tensor, trainee: Trainee, batch: int, seed: int, report: Report
) -> None:
    """Train until ``trainee.steps``. ``latents`` [N, 4, 16, 16] scaled, ``weights`` [N, 1, 16, 16]; scene i's seed is i."""
    shares = torch.tensor([emphasis(random_scene(i)) for i in range(len(latents))])
    while trainee.step < trainee.steps:
        random = generator(seed, trainee.step)
        chosen = torch.multinomial(shares, batch, replacement=True, generator=random).tolist()
        captions = [caption(random_scene(i), caption_rng(i, trainee.step)) for i in chosen]
        loss = task.loss(latents[chosen].float(), captions, weights[chosen].float(), random)
        trainee.update(loss)
        if trainee.step % 20 == 0:
            report(trainee.step, trainee.steps, {"loss": loss.item()})
    trainee.save()
