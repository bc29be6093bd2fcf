"""How far pictures of the embedded base follow a drawing, with the ControlNet and without it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from PIL import Image

from magictailor.attachments.lines import canny, overlap
from magictailor.backbones import load_backbone
from magictailor.backbones.sampling import SamplingOptions, sample, to_images
from magictailor.common.pictures import grid
from magictailor.world.captions import caption, caption_rng
from magictailor.world.render import SIZE, render
from magictailor.world.scene import random_scene
from magictailor.world.training.rendering import HELD_OUT
from magictailor.world.training.samples import GUIDANCE

STEPS, BATCH, SHOWN, FIRST = 25, 8, 8, HELD_OUT + 100_000


def control_scores(control: Path, count: int) -> tuple[dict[str, float], Image.Image]:
    """Held-out captions, each with the lines of its own scene: the mean overlap with and without control, and a sheet."""
    base = load_backbone("embedded", device="cpu", precision="fp32")
    controlnet = ControlNetModel.from_pretrained(control, torch_dtype=torch.float32, local_files_only=True)
    pipeline: Any = StableDiffusionControlNetPipeline.from_pipe(base.pipeline, controlnet=controlnet)
    pipeline.set_progress_bar_config(disable=True)
    scenes = [random_scene(FIRST + i) for i in range(count)]
    truths = [render(scene, SIZE).image for scene in scenes]
    drawings = [canny(image) for image in truths]
    texts = [caption(scene, caption_rng(FIRST + i, 0)) for i, scene in enumerate(scenes)]
    options = SamplingOptions(STEPS, GUIDANCE, batch=BATCH)
    without = list(sample(base, texts, range(count), options))
    controlled: list[Image.Image] = []
    for start in range(0, count, BATCH):
        rows = range(start, min(start + BATCH, count))
        latents = pipeline(
            prompt=[texts[i] for i in rows], image=[Image.fromarray(drawings[i]).convert("RGB") for i in rows],
            num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="latent",
            generator=[torch.Generator().manual_seed(i) for i in rows],
        ).images  # fmt: skip
        with torch.no_grad():
            controlled += to_images(base.pixels_of(latents))
    scores = {
        name: float(np.mean([overlap(canny(np.asarray(i)), d) for i, d in zip(images, drawings, strict=True)]))
        for name, images in (("with", controlled), ("without", without))
    }
    shown = [[Image.fromarray(t) for t in truths], [Image.fromarray(d) for d in drawings], controlled, without]
    return scores, grid([row[:SHOWN] for row in shown], ["render", "lines", "with control", "without"])
