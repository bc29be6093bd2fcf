"""The rival without training: models that take reference images, given one photo of each sample."""

from collections.abc import Iterator

import torch

from magictailor.backbones import Backbone
from magictailor.backbones.sampling import to_images
from magictailor.common.errors import InputError
from magictailor.data import Pair
from magictailor.generation.images import Generated, Record
from magictailor.methods import REFERENCE_ONLY
from magictailor.recipe import Sampling


class ReferenceOnly:
    """Generates a pair's prompts from its photos only; nothing is trained.

    Raises:
        InputError: a model that takes no reference images.
    """

    def __init__(self, pair: Pair, backbone: Backbone, sampling: Sampling) -> None:
        if not backbone.takes_references:
            raise InputError(
                f"{REFERENCE_ONLY}: {backbone.family} takes no reference images", "choose FLUX.2", field="methods"
            )
        self.pair, self.backbone, self.sampling = pair, backbone, sampling

    def prompt(self, text: str) -> str:
        """``<person> with <hair>, on the beach`` as ``the person in image 1 with the hair in image 2, on the beach``."""
        for number, sample in enumerate(self.pair.samples, 1):
            text = text.replace(sample.word, f"the {sample.label} in image {number}")
        return text

    @torch.no_grad()
    def generate(self, prompt: str, *, number: int = 1, seed: int = 0, batch: int | None = None) -> Iterator[Generated]:
        """Images of a prompt, one seed each; the pair's first photo of each sample is given as it is."""
        backbone, sampling = self.backbone, self.sampling
        photos = [sample.references[0].image for sample in self.pair.samples]
        settings = (REFERENCE_ONLY, backbone.name, sampling.steps, sampling.guidance, next(iter(backbone.schedulers)))
        for own in range(seed, seed + number):
            with backbone.inference_mode():
                sampled = backbone.pipeline(  # type: ignore[operator]
                    image=photos,
                    **backbone.pipeline_inputs([self.prompt(prompt)], sampling.guidance),
                    num_inference_steps=sampling.steps,
                    height=backbone.size,
                    width=backbone.size,
                    generator=[torch.Generator().manual_seed(own)],
                    output_type=backbone.sampled_as,
                ).images
            (image,) = to_images(backbone.pixels_of(sampled))
            yield Generated(image, Record(self.pair.name, prompt, own, *settings))
