"""Shap-E, the one backend that is in diffusers."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.common.pretrained import load_pretrained
from magictailor.mesh.contract import Backend, import_trimesh, on_white

MODEL = "openai/shap-e-img2img"
STEPS, GUIDANCE, GRID = 64, 3.0, 128  # the grid: cubes per side that the surface is read on
SIZE = 256  # pixels of the picture that it reads


class ShapE(Backend):
    """``model``: a folder in diffusers format or a hub's name."""

    licence = "MIT"

    def __init__(self, model: str | None, device: str) -> None:
        from diffusers import ShapEImg2ImgPipeline

        fix = "check the name and the network, or give a folder"
        self.pipeline: Any = load_pretrained(ShapEImg2ImgPipeline, model or MODEL, fix, field="model").to(device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.device = torch.device(device)

    @torch.no_grad()
    def mesh(self, picture: Image.Image, seed: int, steps: int | None) -> Any:
        trimesh = import_trimesh()
        (latents,) = self.pipeline(
            on_white(picture).resize((SIZE, SIZE)), num_inference_steps=steps or STEPS, guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(seed), output_type="latent",
        ).images  # fmt: skip
        renderer = self.pipeline.shap_e_renderer
        try:
            decoded = renderer.decode_to_mesh(latents[None], self.device, grid_size=GRID)
        except ValueError as error:  # the library joins no vertices
            raise InputError("Shap-E found no surface", "try another seed or picture", field="seed") from error
        channels = [decoded.vertex_channels[name].cpu().numpy() for name in ("R", "G", "B")]
        colors = (np.clip(np.stack(channels, -1), 0, 1) * 255).round().astype(np.uint8)
        vertices, faces = decoded.verts.cpu().numpy(), decoded.faces.cpu().numpy()
        made = trimesh.Trimesh(vertices, faces, vertex_colors=colors, process=False)  # merging would tear it open
        made.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, (1, 0, 0)))  # it has z up
        return made
