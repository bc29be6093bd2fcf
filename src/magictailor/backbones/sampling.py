"""The denoising itself, used by previews and by generate: one seed an image, whatever the batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from PIL import Image
from torch import Tensor

from magictailor.common.errors import InputError

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


@dataclass(frozen=True)
class Stages:
    """The first ``steps`` under other prompts; ``first`` and ``second`` are called before each stage."""

    steps: int
    first: Callable[[], None]
    second: Callable[[], None]


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


@torch.no_grad()
def sample(
    pipeline: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    size: int,
    batch: int = 8,
    *,
    eta: float = 0.0,
    stages: Stages | None = None,
    first_prompts: Sequence[str] = (),
) -> Iterator[Image.Image]:
    """One picture for each (prompt, seed), lazily, ``batch`` at a time.

    Args:
        eta: DDIM's, 1 for ancestral sampling.
        stages: whose first steps are under ``first_prompts``, one for each prompt.
    """
    pipeline.set_progress_bar_config(disable=True)
    for start in range(0, len(prompts), batch):
        part = slice(start, start + batch)
        texts, more = list(prompts[part]), {}
        if stages is not None:
            more = _second_stage(pipeline, texts, guidance > 1, stages)
            texts = list(first_prompts[part])
            stages.first()
        try:
            out = pipeline(
                texts,
                num_inference_steps=steps,
                guidance_scale=guidance,
                height=size,
                width=size,
                generator=[torch.Generator().manual_seed(s) for s in seeds[part]],
                eta=eta,
                output_type="latent",
                **more,
            )
        finally:
            if stages is not None:
                stages.second()  # whoever has the pipeline finds the run in it, even if the drawing was broken off
        yield from _decoded(pipeline, out.images)


def _decoded(pipeline: Any, latents: Tensor) -> list[Image.Image]:
    """Pictures of latents; the autoencoder may be more precise than the rest, and where it must be it is so for a while."""
    vae = pipeline.vae
    overflows = vae.dtype == torch.float16 and vae.config.force_upcast
    if overflows:
        vae.float()
    scaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    with torch.autocast(vae.device.type, enabled=False):
        pixels = vae.decode(scaled.to(vae.dtype)).sample.float()
    if overflows:
        vae.half()
    pictures: list[Image.Image] = pipeline.image_processor.postprocess(pixels)
    return pictures
