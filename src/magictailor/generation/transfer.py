"""CLiC's transfer: a component generated inside a region of another image."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from magictailor.attachments.specs import read_region
from magictailor.backbones import Backbone
from magictailor.backbones.conditions import cut_off
from magictailor.backbones.sampling import scheduler, to_images
from magictailor.common.errors import InputError
from magictailor.common.events import Listener, Progress, ignore
from magictailor.common.randomness import normal
from magictailor.data.images import load_image
from magictailor.data.training_images import VISIBLE, shrink, square
from magictailor.generation.checks import check_prompt, check_range
from magictailor.recipe import CrossAttention
from magictailor.recipe.naming import Naming
from magictailor.techniques.attention import attention_error
from magictailor.training.run_folder import RunInfo


@dataclass(frozen=True)
class TransferOptions:
    """How strongly the component takes the region.

    start: the share of the denoising that is left out, 0 .. 1 (CLiC: 5 to 15 of 50 steps); the higher, the more of the
    image stays. strength: of the attention's pull into the region, in hundredths of the latents' own length per step; 0
    is blending only. steps, guidance: of the whole denoising; None takes the recipe's.
    """

    start: float = 0.2
    strength: float = 0.5
    steps: int | None = None
    guidance: float | None = None


def transfer(
    backbone: Backbone,
    info: RunInfo,
    image: Path | str,
    region: Path | str,
    *,
    word: str | None = None,
    prompt: str | None = None,
    number: int = 1,
    seed: int = 0,
    options: TransferOptions,
    listen: Listener = ignore,
) -> Iterator[Image.Image]:
    """Generate a component inside a region of an image; see `magictailor.Run.transfer`."""
    naming, config = Naming(info.recipe, info.words), info.recipe.sampling
    if "ddim" not in backbone.schedulers:
        raise InputError(f"transfer: not on {backbone.family}", "use a run on Stable Diffusion 1, 2 or XL", field="run")
    word = list(info.words)[-1] if word is None else word
    if word not in info.words:
        raise InputError(f"{word}: not a pseudo-word of this run", f"it knows {', '.join(info.words)}", field="word")
    prompt = naming.training_prompts(word)[0] if prompt is None else naming.expand(prompt)
    check_prompt(prompt, list(info.words), "prompt")
    if word not in prompt:
        raise InputError(f"{prompt!r} lacks {word}", "add it: its attention is pulled into the region", field="prompt")
    steps = config.steps if options.steps is None else options.steps
    guidance = config.guidance if options.guidance is None else options.guidance
    check_range("start", options.start, 0, 0.999)
    check_range("strength", options.strength, 0, 100)
    check_range("steps", steps, 1, 1000)
    check_range("guidance", guidance, 0, 100)
    check_range("number", number, 1, 10_000)
    check_range("seed", seed, 0, 2**32 - number)
    picture, _ = load_image(Path(image))
    mask = read_region(region, picture, image)
    term = next((phase.attention for phase in info.recipe.phases if phase.attention), CrossAttention())
    pixels, inside = (t[None].to(backbone.device) for t in square(picture, mask, backbone.size))
    height, width = grid = backbone.map_grid(term.blocks)
    if shrink(inside, grid).amax() < VISIBLE:
        raise InputError(
            f"{region}: the mask is empty at the model's {height} x {width} resolution", "paint a larger region"
        )
    painter = _Painter(backbone, pixels, inside, term, options.start, options.strength, steps, guidance)
    painter.encode(prompt, word)
    return painter.paint_all(range(seed, seed + number), listen)


class _Painter:
    """Denoises inside a region of one image. ``pixels`` [1, 3, S, S] in [-1, 1], ``inside`` [1, 1, S, S] in 0 .. 1."""

    def __init__(
        self, backbone: Backbone, pixels: Tensor, inside: Tensor, term: CrossAttention,
        start: float, strength: float, steps: int, guidance: float,
    ) -> None:  # fmt: skip
        self.backbone, self.pixels, self.inside, self.term = backbone, pixels, inside, term
        self.start, self.strength, self.steps, self.guidance = start, strength, steps, guidance
        self.shape = backbone.latent_shape(backbone.size, backbone.size)
        height, width = self.shape[-2:]
        self.mask, self.map_mask = shrink(inside, (height, width)), shrink(inside, backbone.map_grid(term.blocks))

    @torch.no_grad()
    def encode(self, prompt: str, word: str) -> None:
        """Raises InputError for a word that the text encoder cuts off."""
        self.word, self.condition = word, self.backbone.encode_text([prompt], [word])
        self.unconditional = self.backbone.encode_text([""])
        if not self.condition.spans[0][word]:
            raise cut_off(word, "shorten the prompt", field="prompt")

    def _pulled(self, latents: Tensor, time: Tensor) -> Tensor:
        """x - eta grad || A - M ||^2, with an eta that changes x by ``strength`` hundredths of its own length."""
        with torch.enable_grad():
            x = latents.detach().requires_grad_()
            maps = self.backbone.predict(x, time, self.condition, attend=[[self.word]]).attention
            assert maps is not None
            (gradient,) = torch.autograd.grad(attention_error(maps, self.map_mask, self.term.normalised).sum(), x)
        eta = self.strength * 0.01 * latents.norm() / gradient.norm().clamp(min=1e-12)
        return latents - eta * gradient

    def _paint(self, seed: int) -> Image.Image:
        """Blended diffusion: after each step, what lies outside the region is the image's own latents, noised as far."""
        backbone, solver = self.backbone, scheduler("ddim", self.backbone)
        noise = normal(self.shape, seed, 0, 0, "transfer")[None].to(backbone.device)
        solver.set_timesteps(self.steps, device=backbone.device)
        own = backbone.encode_images(self.pixels, torch.zeros_like(noise))
        times = solver.timesteps[min(int(self.start * self.steps), self.steps - 1) :]
        latents = backbone.add_noise(own, noise, times[:1])
        for number, time in enumerate(times):
            if self.strength > 0:
                latents = self._pulled(latents, time[None])
            conditions = self.condition, self.unconditional
            guided, free = (backbone.predict(latents, time[None], c).output for c in conditions)
            stepped = solver.step(free + self.guidance * (guided - free), time, latents).prev_sample
            later = times[number + 1 : number + 2]
            outside = backbone.add_noise(own, noise, later) if len(later) else own
            latents = self.mask * stepped + (1 - self.mask) * outside
        with backbone.inference_mode():
            decoded = backbone.decode_latents(latents)
        # The autoencoder must not change the rest.
        return to_images(self.inside * decoded + (1 - self.inside) * self.pixels)[0]

    @torch.no_grad()
    def paint_all(self, seeds: range, listen: Listener) -> Iterator[Image.Image]:
        """An image for each seed, lazily."""
        for seed in seeds:
            with self.backbone.on_device("text", "vae"), self.backbone.reading_attention(self.term.blocks):
                image = self._paint(seed)
            listen(Progress("generating", seed - seeds.start + 1, len(seeds)))
            yield image
