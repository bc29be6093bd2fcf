"""CLiC's transfer: a component drawn into a region of another picture."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import torch
from PIL import Image
from torch import Tensor

from magictailor.backbones import Backbone
from magictailor.backbones.attention import AttentionMaps
from magictailor.backbones.placement import Where
from magictailor.common.errors import InputError
from magictailor.common.randomness import normal
from magictailor.data.batches import shrunk, square
from magictailor.data.images import load_grey, load_image
from magictailor.generation.pictures import check_prompt, finished_run, loaded
from magictailor.recipe import CrossAttention
from magictailor.recipe.naming import Naming
from magictailor.techniques.attention import attention_error


@dataclass(frozen=True)
class Transfer:
    """How a component gets into a region.

    start: the share of the denoising that is left out, 0 .. 1 (CLiC: 5 to 15 of 50 steps); the higher, the more of the
    picture stays. strength: of the attention's pull into the region, in multiples of the latents' own change in a step;
    0 is blending alone. steps, guidance: of the whole denoising, as in `generate`.
    """

    start: float = 0.2
    strength: float = 0.5
    steps: int | None = None
    guidance: float | None = None


def transfer(
    run: Path | str,
    image: Path | str,
    region: Path | str,
    *,
    word: str | None = None,
    prompt: str | None = None,
    number: int = 1,
    seed: int = 0,
    how: Transfer = Transfer(),
    **where: Unpack[Where],
) -> Iterator[Image.Image]:
    """Draw a run's component into ``region`` (a mask, white inside) of ``image``; outside, the picture stays.

    Blended diffusion: after each step what lies outside the region is the picture's own, noised as far. Within, the
    latents are pulled to where the pseudo-word's attention should be (CLiC).

    Args:
        word: the pseudo-word; the last one, unless given.
        prompt: the training prompt of that word, unless given; it must hold the word.
        number: pictures, from seeds ``seed``, ``seed + 1`` and so on.
        where: see `load`.

    Returns:
        Squares of the model's size around the region, lazily.

    Raises:
        InputError: no run, no such word, pictures that cannot be read, an empty region, numbers out of range.
    """
    folder, info = finished_run(run)
    naming = Naming(info.recipe, info.words)
    word = word or list(info.words)[-1]
    if word not in info.words:
        raise InputError(f"--word {word}: not a pseudo-word of this run; it knows {', '.join(info.words)}")
    prompt = naming.prompts(word)[0] if prompt is None else naming.written(prompt)
    check_prompt(prompt, list(info.words))
    if word not in prompt:
        raise InputError(f"--prompt: must hold {word}, whose attention is pulled into the region")
    steps = info.recipe.sampling_steps if how.steps is None else how.steps
    guidance = info.recipe.guidance if how.guidance is None else how.guidance
    ranges = (0 <= how.start < 1, 0 <= how.strength <= 100, 1 <= steps <= 1000, 0 <= guidance <= 100)
    if not all(ranges) or number < 1 or not 0 <= seed <= 2**32 - number:
        raise InputError(
            "--start must be in 0 .. 1 (1 excluded), --strength and --guidance in 0 .. 100, --steps in 1 .. 1000, --number at "
            "least 1, seeds in 0 .. 2^32 - 1"
        )
    how = replace(how, steps=steps, guidance=guidance)
    picture, _ = load_image(Path(image))
    mask = load_grey(region)
    if picture.size != mask.size:
        raise InputError(
            f"{region} is {mask.size[0]} x {mask.size[1]}, {image} {picture.size[0]} x {picture.size[1]}: make them one size"
        )
    if mask.point(lambda v: 255 * (v > 127)).getbbox() is None:
        raise InputError(f"{region}: has no white in it; white is the region")
    backbone = loaded(folder, (), where, as_pipeline=False)
    term = next((phase.attention for phase in info.recipe.phases if phase.attention), CrossAttention())
    pixels, inside = (t[None].to(backbone.device) for t in square(picture, mask, backbone.size))
    if shrunk(inside, backbone.map_side).amax() < 0.1:
        raise InputError(f"{region}: its white vanishes at {backbone.map_side} x {backbone.map_side}; make it larger")
    painter = _Painter(backbone, pixels, inside, term, how)
    painter.tell(prompt, word)
    return _painted(painter, range(seed, seed + number))


class _Painter:
    """Denoises inside a region of one picture. ``pixels`` [1, 3, S, S] in [-1, 1], ``inside`` [1, 1, S, S] in 0 .. 1."""

    def __init__(self, backbone: Backbone, pixels: Tensor, inside: Tensor, term: CrossAttention, how: Transfer) -> None:
        self.backbone, self.how = backbone, how
        self.pixels, self.inside, self.normalised = pixels, inside, term.normalised
        self.pipeline: Any = backbone.pipeline
        self.shape = backbone.latent_shape(backbone.size, backbone.size)
        self.mask, self.map_mask = (shrunk(self.inside, side) for side in (self.shape[-1], backbone.map_side))
        self.maps = AttentionMaps(backbone.denoiser, backbone.attention_layers(term.blocks == "up"))

    @torch.no_grad()
    def tell(self, prompt: str, word: str) -> None:
        """What to draw. Raises InputError for a word that the text encoder does not get to see."""
        self.told, self.untold = self.backbone.encode_text([prompt], [word]), self.backbone.encode_text([""])
        places = next(iter(self.told.positions[0][word].values()))
        if not places:
            raise InputError(f"--prompt: {word} lies beyond the text encoder's length; shorten the prompt")
        self.tokens = torch.zeros(1, 1, self.told.sequence.shape[1], device=self.backbone.device)
        self.tokens[..., list(places)] = 1 / len(places)

    def _pulled(self, latents: Tensor, time: Tensor) -> Tensor:
        """x - eta grad || CA - M_target ||^2; eta such that the change is ``strength`` hundredths of x's own length."""
        with torch.enable_grad():
            x = latents.detach().requires_grad_()
            self.maps.record(self.tokens)
            self.backbone.predict(x, time, self.told)
            loss = attention_error(self.maps.mean()[:, 0], self.map_mask[:, 0], self.normalised).sum()
            (gradient,) = torch.autograd.grad(loss, x)
            self.maps.stop()
        eta = self.how.strength * 0.01 * latents.norm() / gradient.norm().clamp(min=1e-12)
        return latents - eta * gradient

    def _step(self, latents: Tensor, time: Tensor) -> Tensor:
        """One step of the denoising, with guidance."""
        guided, free = (self.backbone.predict(latents, time[None], told) for told in (self.told, self.untold))
        noise = free + float(self.how.guidance or 0) * (guided - free)
        stepped: Tensor = self.pipeline.scheduler.step(noise, time, latents).prev_sample
        return stepped

    def paint(self, seed: int) -> Image.Image:
        noise = normal(self.shape, seed, 0, 0, "transfer")[None].to(self.backbone.device)
        self.pipeline.scheduler.set_timesteps(self.how.steps, device=self.backbone.device)
        times = self.pipeline.scheduler.timesteps
        own = self.backbone.encode_images(self.pixels, torch.zeros_like(noise))
        times = times[min(int(self.how.start * len(times)), len(times) - 1) :]
        latents = self.backbone.add_noise(own, noise, times[:1])
        for number, time in enumerate(times):
            if self.how.strength > 0:
                latents = self._pulled(latents, time[None])
            later = times[number + 1 : number + 2]
            outside = self.backbone.add_noise(own, noise, later) if len(later) else own
            latents = self.mask * self._step(latents, time) + (1 - self.mask) * outside
        decoded = self.backbone.decode_latents(latents)
        whole = self.inside * decoded + (1 - self.inside) * self.pixels  # the autoencoder must not touch the rest
        picture: Image.Image = self.pipeline.image_processor.postprocess(whole)[0]
        return picture


@torch.no_grad()
def _painted(painter: _Painter, seeds: range) -> Iterator[Image.Image]:
    with painter.backbone.drawing():
        for seed in seeds:
            yield painter.paint(seed)
