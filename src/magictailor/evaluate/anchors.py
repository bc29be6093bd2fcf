"""Floor and ceiling of a pair of the world: what a method scores that transfers nothing, or everything.

A score means something only between them. None of them is trained.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image

from magictailor.backbones import Backbone
from magictailor.backbones.sampling import SamplingOptions, sample, to_images
from magictailor.evaluate.anchor_names import RENDERED
from magictailor.evaluate.metrics.prompts import ParsedPrompt, parse_prompt
from magictailor.generation.images import Generated, Record
from magictailor.recipe import Sampling
from magictailor.world.captions import full_caption
from magictailor.world.pairs import WorldPair
from magictailor.world.render import render


def is_rendered(prompt: str, words: Sequence[str]) -> bool:
    """Whether the prompt's true image can be rendered."""
    parsed = parse_prompt(prompt, words)
    return parsed is not None and (parsed.concept or parsed.component)


@torch.no_grad()
def through_autoencoder(backbone: Backbone, images: Sequence[np.ndarray]) -> list[Image.Image]:
    """Images uint8 [H, W, 3] encoded and decoded, as well as the base can show them."""
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with backbone.on_device("vae"):
        pixels = pixels.to(backbone.device)
        shape = (len(images), *backbone.latent_shape(*pixels.shape[-2:]))
        latents = backbone.encode_images(pixels, torch.zeros(shape, device=backbone.device))
        return to_images(backbone.decode_latents(latents))


class Anchor:
    """Generates a pair's prompts for one of the anchors."""

    def __init__(self, name: str, pair: WorldPair, backbone: Backbone, sampling: Sampling) -> None:
        self.name, self.pair, self.backbone, self.sampling = name, pair, backbone, sampling

    def _rendered(self, parsed: ParsedPrompt) -> Image.Image:
        subjects = {"truth": parsed.subject(self.pair), "nothing-transferred": self.pair.concept}
        scene = parsed.scene(self.pair, subjects.get(self.name, self.pair.owner))
        return through_autoencoder(self.backbone, [render(scene, self.backbone.size).image])[0]

    def _captioned(self, parsed: ParsedPrompt, seeds: Sequence[int], batch: int | None) -> Iterator[Image.Image]:
        caption = full_caption(parsed.scene(self.pair, parsed.subject(self.pair)))
        options = SamplingOptions(self.sampling.steps, self.sampling.guidance, batch=batch)
        return sample(self.backbone, [caption] * len(seeds), seeds, options)

    def generate(self, prompt: str, *, number: int = 1, seed: int = 0, batch: int | None = None) -> Iterator[Generated]:
        """Images of a prompt for which `is_rendered` holds."""
        parsed, seeds = parse_prompt(prompt, self.pair.words), range(seed, seed + number)
        assert parsed is not None
        rendered = self.name in RENDERED
        images = [self._rendered(parsed)] if rendered else self._captioned(parsed, seeds, batch)
        settings = (self.name, self.backbone.name, 0 if rendered else self.sampling.steps, self.sampling.guidance, "")
        for own, image in zip(seeds, images):
            yield Generated(image, Record(f"world-{self.pair.seed}", prompt, own, *settings))
