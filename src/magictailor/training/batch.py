"""From rows to what the denoiser reads: rendered, degraded, encoded, noised."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from magictailor.backbones import Backbone
from magictailor.common.tensors import to_device
from magictailor.data.training_images import shrink
from magictailor.recipe import Degradation, DMDeg, Phase, Recipe, RegionOfInterest
from magictailor.techniques.degradation import degraded_latents, degraded_pixels
from magictailor.training.rows import Row


@dataclass(frozen=True)
class RegionInputs:
    """CLiC: the masked images by themselves, both [k, C, h, w]."""

    noisy: Tensor
    target: Tensor


@dataclass(frozen=True)
class Batch:
    """k rows as tensors. Masks have one layout everywhere: [k, n, h, w], n the most subjects of a row.

    noisy, target: [k, C, h, w], what the denoiser reads and what it should predict. times: [k].
    """

    rows: Sequence[Row]
    noisy: Tensor
    times: Tensor
    target: Tensor
    mask: Tensor  # M', the union of the subjects' masks on the latents' grid, [k, 1, h, w]
    map_masks: Tensor | None  # M'' of each subject on the attention maps' grid; None: no attention loss
    region: RegionInputs | None = None

    @property
    def numbers(self) -> list[int]:
        """Of its rows in the step."""
        return [row.number for row in self.rows]


def mask_grids(backbone: Backbone, recipe: Recipe) -> list[tuple[int, int]]:
    """Height and width of the grids on which losses read masks: the latents', and the attention maps' if one reads them."""
    height, width = backbone.latent_shape(backbone.size, backbone.size)[-2:]
    term = recipe.attention
    return [(height, width), *([] if term is None else [backbone.map_grid(term.blocks)])]


class BatchMaker:
    """Makes the batches of one pair's run."""

    def __init__(self, backbone: Backbone, recipe: Recipe) -> None:
        self.backbone, self.recipe = backbone, recipe
        self.latent_shape = backbone.latent_shape(backbone.size, backbone.size)
        self.latent_grid, *map_grids = mask_grids(backbone, recipe)
        self.map_grid = map_grids[0] if map_grids else None
        self._encoded_at = -1
        self._encoded: dict[tuple[tuple[int, ...], Degradation], tuple[Tensor, Tensor, Tensor]] = {}

    @torch.no_grad()
    def batch(self, rows: Sequence[Row], uniform: Tensor, phase: Phase) -> Batch:
        """``uniform``: a number in [0, 1) for each row, its time."""
        backbone, device = self.backbone, self.backbone.device
        latents, pixels, masks = self._latents(rows, phase.degradation)
        times = to_device(backbone.times(uniform), device)
        noise = to_device(torch.stack([row.normal(self.latent_shape, "noise") for row in rows]), device)
        noisy, union = backbone.add_noise(latents, noise, times), masks.amax(1, keepdim=True)
        mask, region = shrink(union, self.latent_grid), None
        if phase.region is not None:
            alone = self._alone(rows, latents, pixels, union, mask, phase.region)
            masked = noisy * mask if phase.region.masked == "latents" else backbone.add_noise(alone, noise, times)
            # Its own target: that of v prediction must not hold what was masked out.
            region = RegionInputs(masked, backbone.target(alone, noise, times))
        map_masks = shrink(masks, self.map_grid) if phase.attention and self.map_grid else None
        return Batch(rows, noisy, times, backbone.target(latents, noise, times), mask, map_masks, region)

    def _latents(self, rows: Sequence[Row], config: Degradation) -> tuple[Tensor, Tensor, Tensor]:
        """`_encode`, once for all steps that share images; a resumed run computes the same again."""
        if rows[0].image_step != self._encoded_at:
            self._encoded_at, self._encoded = rows[0].image_step, {}
        key = (tuple(row.number for row in rows), config)
        if key not in self._encoded:
            self._encoded[key] = self._encode(rows, config)
        return self._encoded[key]

    def _encode(self, rows: Sequence[Row], config: Degradation) -> tuple[Tensor, Tensor, Tensor]:
        """Latents of the degraded images [k, ...], the images without degradation [k, 3, S, S], masks [k, n, S, S]."""
        quirks, device = self.recipe.quirks, self.backbone.device
        size, augment = self.backbone.size, self.recipe.data.augment
        rendered = [row.render(size, augment, quirks.shared_augmentation, device) for row in rows]
        most = max(len(masks) for _, masks in rendered)
        masks = torch.stack([torch.cat([m, m.new_zeros(most - len(m), *m.shape[1:])]) for _, m in rendered])
        images, union = torch.stack([image for image, _ in rendered]), masks.amax(1, keepdim=True)
        noise = partial(self._degradation, rows)
        progress = rows[0].image_step / self.recipe.steps
        pixels = degraded_pixels(images, union, noise, config, progress)
        if quirks.clamp_degraded and isinstance(config, DMDeg):
            pixels = pixels.clamp(-1, 1)
        latents = self.backbone.encode_images(pixels, self._noise(rows, "posterior", self.latent_shape))
        latents = degraded_latents(latents, shrink(union, self.latent_grid), noise, config, progress)
        return latents, images, masks

    def _noise(self, rows: Sequence[Row], purpose: str, shape: Sequence[int]) -> Tensor:
        """Normal numbers [k, *shape], the same for all steps that share images."""
        return to_device(torch.stack([row.image_normal(tuple(shape), purpose) for row in rows]), self.backbone.device)

    def _degradation(self, rows: Sequence[Row], shape: Sequence[int]) -> Tensor:
        """G of equation 4, [k, *shape]. A card draws it itself: for a CPU, millions of numbers a step are much work."""
        device = self.backbone.device
        return torch.stack([row.image_normal(tuple(shape), "degradation", device) for row in rows])

    def _alone(
        self,
        rows: Sequence[Row],
        latents: Tensor,
        pixels: Tensor,
        union: Tensor,
        mask: Tensor,
        config: RegionOfInterest,
    ) -> Tensor:
        """Latents of the masked images alone."""
        if config.masked == "latents":
            return latents * mask
        return self.backbone.encode_images(pixels * union, self._noise(rows, "posterior", self.latent_shape))
