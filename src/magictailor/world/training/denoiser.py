"""The denoiser and its text encoder, trained together on latents and captions drawn anew each time."""

from collections.abc import Sequence

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from magictailor.world.captions import caption, caption_rng
from magictailor.world.embedded import TRAIN_STEPS
from magictailor.world.scene import random_scene
from magictailor.world.tokenizer import LENGTH
from magictailor.world.training.state import Report, Trainee, generator


def tokens(tokenizer: CLIPTokenizer, captions: Sequence[str], device: torch.device) -> Tensor:
    """Token numbers, [N, 77]."""
    out = tokenizer(list(captions), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    return out.input_ids.to(device)


def stratified_times(count: int, random: torch.Generator) -> Tensor:
    """One time in each of ``count`` equal parts of 0 .. 999, in random order: less noise than free draws."""
    u = (torch.arange(count) + torch.rand(count, generator=random)) / count
    return (u * TRAIN_STEPS).long()[torch.randperm(count, generator=random)]


def velocity_loss(
    unet: UNet2DConditionModel, scheduler: DDIMScheduler, latents: Tensor, text: Tensor, times: Tensor, noise: Tensor
) -> Tensor:
    """|| v - v_theta(z_t, t, e) ||^2, the mean over everything."""
    noisy = scheduler.add_noise(latents, noise, times)
    predicted = unet(noisy, times, text).sample.float()
    return (predicted - scheduler.get_velocity(latents, noise, times)).square().mean()


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

    def loss(self, latents: Tensor, captions: Sequence[str], random: torch.Generator) -> Tensor:
        """``latents``: scaled, [N, 4, 16, 16]."""
        times = stratified_times(len(latents), random).to(self.device)
        noise = torch.randn(latents.shape, generator=random).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            text = self.text_encoder(tokens(self.tokenizer, captions, self.device)).last_hidden_state
            return velocity_loss(self.unet, self.scheduler, latents.to(self.device), text, times, noise)

    @torch.no_grad()
    def held_out(self, latents: Tensor, captions: Sequence[str]) -> float:
        """The loss on given pictures with fixed times and noise."""
        total = 0.0
        for i in range(0, len(latents), 64):
            part = self.loss(latents[i : i + 64], captions[i : i + 64], generator(0, i))
            total += part.item() * len(latents[i : i + 64])
        return total / len(latents)


def train_denoiser(
    task: Denoising, latents: Tensor, trainee: Trainee, batch: int, seed: int, report: Report, first: int = 0
) -> None:
    """Train until ``trainee.steps``. ``latents``: [N, 4, 16, 16], scaled; picture i has scene seed ``first + i``."""
    while trainee.step < trainee.steps:
        random = generator(seed, trainee.step)
        chosen = torch.randint(len(latents), (batch,), generator=random).tolist()
        captions = [caption(random_scene(first + i), caption_rng(first + i, trainee.step)) for i in chosen]
        loss = task.loss(latents[chosen].float(), captions, random)
        trainee.update(loss)
        if trainee.step % 20 == 0:
            report(trainee.step, trainee.steps, {"loss": loss.item()})
    trainee.save()
