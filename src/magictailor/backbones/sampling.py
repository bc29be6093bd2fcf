"""Generating images: one seed per image, whatever the batch."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from torch import Tensor

from magictailor.backbones.contract import Backbone
from magictailor.common.errors import check_choice


def scheduler(name: str, backbone: Backbone) -> Any:
    """A scheduler of diffusers by our name, with the base's own noise schedule.

    Raises:
        InputError: an unknown name.
    """
    check_choice(name, backbone.schedulers, "scheduler")
    kind, options = backbone.schedulers[name]
    return kind.from_config(dict(backbone.noise_schedule), **options)


@dataclass(frozen=True)
class Stages:
    """CLiC: the first ``steps`` use other prompts and weights; ``first`` and ``second`` are called before each stage."""

    steps: int
    first: Callable[[], None]
    second: Callable[[], None]


@dataclass(frozen=True)
class SamplingOptions:
    """``scheduler``: None: the family's own. ``eta``: DDIM's, 1 for ancestral sampling. ``batch``: images at a time; None:
    the preset's. ``emphasis``: its strength, see `Backbone.emphasizing`."""

    steps: int
    guidance: float
    scheduler: str | None = None
    eta: float = 0.0
    batch: int | None = None
    emphasis: float = 0.0


@torch.no_grad()
def sample(
    backbone: Backbone,
    prompts: Sequence[str],
    seeds: Sequence[int],
    options: SamplingOptions,
    *,
    stages: Stages | None = None,
    first_prompts: Sequence[str] = (),
    pipeline: Any = None,
    inputs: Callable[[int], Mapping[str, Any]] | None = None,
    without: Sequence[str] = (),
) -> Iterator[Image.Image]:
    """One image for each (prompt, seed), lazily.

    Args:
        stages: the first of them uses ``first_prompts``, one for each prompt.
        pipeline: another of diffusers', with the backbone's networks.
        inputs: further arguments of its call, for a number of images.
        without: for each prompt, the one without what should be emphasised.
    """
    pipeline = backbone.pipeline if pipeline is None else pipeline
    accepted = inspect.signature(type(pipeline).__call__).parameters
    square = {name: backbone.size for name in ("height", "width") if name in accepted}  # others take the image's
    pipeline.set_progress_bar_config(disable=True)
    batch, solver = (
        options.batch or backbone.runtime.preset.sample_batch_size,
        scheduler(options.scheduler or next(iter(backbone.schedulers)), backbone),
    )
    for start in range(0, len(prompts), batch):
        part = slice(start, start + batch)
        texts, more = list(prompts[part]), {}
        own, pipeline.scheduler = pipeline.scheduler, solver
        with backbone.inference_mode(), backbone.emphasizing(without[part], options.emphasis):
            try:
                if stages is not None:
                    more = _second_stage(pipeline, texts, options.guidance > 1, stages)
                    texts = list(first_prompts[part])
                    stages.first()
                sampled = pipeline(
                    **backbone.pipeline_inputs(texts, options.guidance),
                    **({"eta": options.eta} if "ddim" in backbone.schedulers else {}),
                    num_inference_steps=options.steps,
                    **square,
                    generator=[torch.Generator().manual_seed(s) for s in seeds[part]],
                    output_type=backbone.sampled_as,
                    **(inputs(len(texts)) if inputs else {}),
                    **more,
                ).images
            finally:
                pipeline.scheduler = own
                if stages is not None:
                    stages.second()  # also after an error: whoever uses the pipeline next finds the trained weights
            images = to_images(backbone.pixels_of(sampled))
        yield from images


def to_images(pixels: Tensor) -> list[Image.Image]:
    """[N, 3, H, W] in [-1, 1], clamped and rounded."""
    images: list[Image.Image] = VaeImageProcessor().postprocess(pixels)
    return images


def _second_stage(pipeline: Any, prompts: Sequence[str], guided: bool, stages: Stages) -> dict[str, Any]:
    """Options of a pipeline's call: from a step on, other prompts."""
    encoded = pipeline.encode_prompt(list(prompts), device=pipeline._execution_device, num_images_per_prompt=1, do_classifier_free_guidance=guided)  # fmt: skip
    names = ("prompt_embeds", "add_text_embeds")[: len(encoded) // 2]  # SDXL has pooled ones as well
    later = {n: torch.cat([encoded[2 * i + 1], encoded[2 * i]]) if guided else encoded[2 * i] for i, n in enumerate(names)}  # fmt: skip

    def after(_: Any, step: int, time: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if step + 1 != stages.steps:
            return {}
        stages.second()
        return dict(later)

    return {"callback_on_step_end": after, "callback_on_step_end_tensor_inputs": ["latents"]}
