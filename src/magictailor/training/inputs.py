"""From a step's rows to what the denoiser reads: augmented, degraded, encoded, noised."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from magictailor.backbones.contract import Backbone
from magictailor.common.randomness import generator, normal, uniform
from magictailor.data.batches import augmented, plain_picture, shrunk
from magictailor.data.collage import collage
from magictailor.recipe import Degradation, DMDeg, Phase, Recipe, RegionOfInterest
from magictailor.techniques.degradation import degraded
from magictailor.training.examples import Example, Examples

COLLAGE_DRAWS = (3, 4)  # numbers for the ground, and for each thing on it


@dataclass
class Look:
    """The masked pictures alone: what the denoiser reads, and what it should say."""

    noisy: Tensor
    target: Tensor


@dataclass
class Batch:
    """Some of a step's rows, made into what the denoiser reads; ``numbers``: which."""

    numbers: list[int]
    noisy: Tensor
    timesteps: Tensor
    target: Tensor
    mask: Tensor  # M', of all that is shown, [k, 1, h, w]
    map_masks: Tensor | None  # M'' of each thing shown, [k, n, s, s]; None: no attention loss
    region: Look | None = None  # CLiC's second look


class Inputs:
    """The batches of one pair's run."""

    def __init__(self, backbone: Backbone, examples: Examples, recipe: Recipe) -> None:
        self.backbone, self.examples, self.recipe = backbone, examples, recipe
        self.latent = backbone.latent_shape(backbone.size, backbone.size)
        self._drawn_at = -1
        self._drawn: dict[tuple[tuple[int, ...], Degradation], tuple[Tensor, Tensor, Tensor]] = {}

    def _augmentation(self, step: int, number: int, thing: int = 0) -> Tensor:
        index = 0 if self.recipe.augment.shared else number
        return uniform(4, self.examples.seed, step, index, f"augment{thing or ''}")

    def _uniform_time(self, step: int, number: int) -> Tensor:
        """One number in [0, 1); stratified: one in each of as many equal parts as the step has images."""
        u = uniform(1, self.examples.seed, step, number, "time")
        if not self.recipe.stratified_times:
            return u
        count = self.examples.count
        parts = torch.randperm(count, generator=generator(self.examples.seed, step, 0, "strata"))
        return (parts[number] + u) / count

    def _noises(self, step: int, numbers: Sequence[int], purpose: str) -> Tensor:
        seed = self.examples.seed
        return torch.stack([normal(self.latent, seed, step, i, purpose) for i in numbers]).to(self.backbone.device)

    def _shown(self, step: int, row: Example) -> tuple[Tensor, Tensor]:
        """A row's pixels [3, S, S], and the mask of each thing in it, [n, 1, S, S]."""
        if row.prior is not None:
            with Image.open(row.prior) as image:
                prior = plain_picture(image.convert("RGB"), self.backbone.size).on(self.backbone.device)
            return prior.pixels, prior.mask[None]
        things = [picture.on(self.backbone.device) for picture in row.shown]
        seed, how = self.examples.seed, self.recipe.augment
        looks = [augmented(p, how, self._augmentation(step, row.number, i)) for i, p in enumerate(things)]
        if len(looks) > 1:
            ground, each = COLLAGE_DRAWS
            return collage(looks, uniform(ground + each * len(looks), seed, step, row.number, "collage"))
        pixels, mask = looks[0]
        scaling = self.examples.scaling(step, row.number)
        return scaling.of(pixels, mask[None]) if scaling else (pixels, mask[None])

    def _draw(self, step: int, rows: Sequence[Example], how: Degradation) -> tuple[Tensor, Tensor, Tensor]:
        """This step's latents [k, ...], its pixels as they are [k, 3, H, W], and its masks [k, n, H, W], n the most
        things that a row shows."""
        looks = [self._shown(step, row) for row in rows]
        most = max(len(masks) for _, masks in looks)
        masks = torch.cat([torch.cat([m, m.new_zeros(most - len(m), *m.shape[1:])]).transpose(0, 1) for _, m in looks])
        pixels = []
        for row, (image, _), mask in zip(rows, looks, masks.amax(1, keepdim=True), strict=True):
            noise = torch.zeros_like(image)
            if isinstance(how, DMDeg):
                noise = normal(tuple(image.shape), self.examples.seed, step, row.number, "degradation").to(image.device)
            pixels.append(degraded(image, mask, noise, how, step, self.recipe.steps))
        posterior = self._noises(step, [row.number for row in rows], "posterior")
        latents = self.backbone.encode_images(torch.stack(pixels), posterior)
        return latents, torch.stack([image for image, _ in looks]), masks

    def _latents(self, step: int, rows: Sequence[Example], how: Degradation) -> tuple[Tensor, Tensor, Tensor]:
        """Drawn anew every ``redraw`` steps, as of the first of them; so a resumed run draws the same again."""
        first = step - step % self.recipe.redraw
        if first != self._drawn_at:
            self._drawn_at, self._drawn = first, {}
        key = (tuple(row.number for row in rows), how)
        if key not in self._drawn:
            self._drawn[key] = self._draw(first, rows, how)
        return self._drawn[key]

    def _look(self, alone: Tensor, masked: Tensor, noise: Tensor, timesteps: Tensor, how: RegionOfInterest) -> Look:
        """``alone``: latents of the masked pictures. Their own target: with v it must not hold what was masked out; with
        epsilon it is the noise either way."""
        noisy = masked if how.masked == "latents" else self.backbone.add_noise(alone, noise, timesteps)
        return Look(noisy, self.backbone.target(alone, noise, timesteps))

    @torch.no_grad()
    def batch(self, step: int, rows: Sequence[Example], phase: Phase) -> Batch:
        """Time and noise are fresh in each step."""
        latents, pixels, masks = self._latents(step, rows, phase.degradation)
        numbers = [row.number for row in rows]
        uniforms = torch.cat([self._uniform_time(step, i) for i in numbers])
        timesteps = self.backbone.timesteps(uniforms).to(self.backbone.device)
        noise = self._noises(step, numbers, "noise")
        noisy = self.backbone.add_noise(latents, noise, timesteps)
        whole = masks.amax(1, keepdim=True)
        mask = shrunk(whole, self.latent[-1])
        region = None
        if phase.region is not None:
            alone = latents * mask
            if phase.region.masked == "pixels":
                alone = self.backbone.encode_images(pixels * whole, self._noises(step, numbers, "posterior"))
            region = self._look(alone, noisy * mask, noise, timesteps, phase.region)
        return Batch(
            numbers,
            noisy,
            timesteps,
            self.backbone.target(latents, noise, timesteps),
            mask,
            shrunk(masks, self.backbone.map_side) if phase.attention else None,
            region,
        )
