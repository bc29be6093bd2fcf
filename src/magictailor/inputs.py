"""From a step's images to what the denoiser reads: augmented, degraded, encoded, noised."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from magictailor.backbones.contract import Backbone
from magictailor.data.batches import Picture, augmented, shrunk
from magictailor.randomness import generator, normal, uniform
from magictailor.recipe import Degradation, DMDeg, Phase, Recipe
from magictailor.techniques.degradation import degraded


@dataclass
class Batch:
    """Some of a step's images, made into what the denoiser reads. ``images`` are their numbers in the pair."""

    images: list[int]
    noisy: Tensor
    timesteps: Tensor
    target: Tensor
    mask: Tensor  # M', [k, 1, h, w]
    map_mask: Tensor | None  # M'', [k, s, s]; None: no attention loss


class Inputs:
    """The batches of one pair's run."""

    def __init__(self, backbone: Backbone, pictures: Sequence[Picture], recipe: Recipe) -> None:
        self.backbone, self.recipe = backbone, recipe
        self.pictures = [p.on(backbone.device) for p in pictures]
        self.latent = backbone.latent_shape(backbone.size, backbone.size)
        self._drawn_at = -1
        self._drawn: dict[tuple[tuple[int, ...], Degradation], tuple[Tensor, Tensor]] = {}

    def _augmentation(self, step: int, image: int) -> Tensor:
        index = 0 if self.recipe.augment.shared else image
        return uniform(4, self.recipe.seed, step, index, "augment")

    def _uniform_time(self, step: int, image: int) -> Tensor:
        """One number in [0, 1); stratified: one in each of as many equal parts as the step has images."""
        u = uniform(1, self.recipe.seed, step, image, "time")
        if not self.recipe.stratified_times:
            return u
        parts = torch.randperm(len(self.pictures), generator=generator(self.recipe.seed, step, 0, "strata"))
        return (parts[image] + u) / len(self.pictures)

    def _noises(self, step: int, images: Sequence[int], purpose: str) -> Tensor:
        seed = self.recipe.seed
        return torch.stack([normal(self.latent, seed, step, i, purpose) for i in images]).to(self.backbone.device)

    def _draw(self, step: int, images: Sequence[int], how: Degradation) -> tuple[Tensor, Tensor]:
        """The images' latents and masks of this step: [k, ...] and [k, 1, H, W]."""
        pixels, masks = [], []
        for i in images:
            image, mask = augmented(self.pictures[i], self.recipe.augment, self._augmentation(step, i))
            if isinstance(how, DMDeg):
                noise = normal(tuple(image.shape), self.recipe.seed, step, i, "degradation").to(image.device)
            else:
                noise = torch.zeros_like(image)
            pixels.append(degraded(image, mask, noise, how, step, self.recipe.steps))
            masks.append(mask)
        latents = self.backbone.encode_images(torch.stack(pixels), self._noises(step, images, "posterior"))
        return latents, torch.stack(masks)

    def _latents(self, step: int, images: list[int], how: Degradation) -> tuple[Tensor, Tensor]:
        """Drawn anew every ``redraw`` steps, as of the first of them; so a resumed run draws the same again."""
        first = step - step % self.recipe.redraw
        if first != self._drawn_at:
            self._drawn_at, self._drawn = first, {}
        key = (tuple(images), how)
        if key not in self._drawn:
            self._drawn[key] = self._draw(first, images, how)
        return self._drawn[key]

    @torch.no_grad()
    def batch(self, step: int, images: list[int], phase: Phase) -> Batch:
        """``images``: their numbers in the pair; time and noise are fresh in each step."""
        latents, mask = self._latents(step, images, phase.degradation)
        uniforms = torch.cat([self._uniform_time(step, i) for i in images])
        timesteps = self.backbone.timesteps(uniforms).to(self.backbone.device)
        noise = self._noises(step, images, "noise")
        return Batch(
            images,
            self.backbone.add_noise(latents, noise, timesteps),
            timesteps,
            self.backbone.target(latents, noise, timesteps),
            shrunk(mask, self.latent[-1]),
            shrunk(mask, self.backbone.map_side)[:, 0] if phase.attention else None,
        )
