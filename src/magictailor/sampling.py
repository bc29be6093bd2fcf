"""The denoising itself, used by previews and by generate: one seed an image, whatever the batch."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from PIL import Image
from torch import Tensor

from magictailor.errors import InputError

# Every option that one of them sets is set by all: a pipeline's scheduler may be exchanged again and again.
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False}),
    "dpm++-karras": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "sde-dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": False}),
}


def scheduler(name: str, config: Any) -> Any:
    """A scheduler of diffusers by our name, with the model's own noise schedule.

    Raises:
        InputError: an unknown name.
    """
    if name not in SCHEDULERS:
        raise InputError(f"--scheduler {name}: choose one of {', '.join(SCHEDULERS)}")
    kind, options = SCHEDULERS[name]
    return kind.from_config(config, **options)


@torch.no_grad()
def sample(
    pipeline: Any, prompts: Sequence[str], seeds: Sequence[int], steps: int, guidance: float, size: int, batch: int = 8
) -> Iterator[Image.Image]:
    """One picture for each (prompt, seed), lazily, ``batch`` at a time."""
    pipeline.set_progress_bar_config(disable=True)
    for start in range(0, len(prompts), batch):
        random = [torch.Generator().manual_seed(s) for s in seeds[start : start + batch]]
        out = pipeline(
            list(prompts[start : start + batch]),
            num_inference_steps=steps,
            guidance_scale=guidance,
            height=size,
            width=size,
            generator=random,
            output_type="latent",
        )
        yield from _decoded(pipeline, out.images)


def _decoded(pipeline: Any, latents: Tensor) -> list[Image.Image]:
    """Pictures of latents; the autoencoder may be more precise than the rest, and where it must be it is so for a while."""
    vae = pipeline.vae
    overflows = vae.dtype == torch.float16 and vae.config.force_upcast
    if overflows:
        vae.float()
    scaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    pixels = vae.decode(scaled.to(vae.dtype)).sample.float()
    if overflows:
        vae.half()
    pictures: list[Image.Image] = pipeline.image_processor.postprocess(pixels)
    return pictures
