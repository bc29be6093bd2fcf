"""TRELLIS.2: a structure, its shape and its material, each by flow matching; then a textured mesh."""

from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

MODEL = "microsoft/TRELLIS.2-4B"
RASTERIZER_LIMIT = 2**24  # faces that its rasterizer can number
FACES, TEXTURE = 500_000, 2048  # of the mesh that is written; pixels a side


def load(checkout: Path, model: str | None, device: str) -> tuple[Any, Any]:
    """The pipeline, and what makes a mesh of its output."""
    import torch

    to_glb = import_module("o_voxel").postprocess.to_glb
    kind = import_module("trellis2.pipelines").Trellis2ImageTo3DPipeline
    if ":" in device:
        torch.cuda.set_device(device)
    pipeline = kind.from_pretrained(model or MODEL)
    pipeline.cuda()
    return pipeline, to_glb


def make(loaded: tuple[Any, Any], picture: Image.Image, seed: int, steps: int | None) -> Any:
    """A mesh with a texture, y up. ``steps``: of each of the three."""
    pipeline, to_glb = loaded
    stages = ("sparse_structure", "shape_slat", "tex_slat")
    options = {} if steps is None else {f"{stage}_sampler_params": {"steps": steps} for stage in stages}
    (mesh,) = pipeline.run(picture, seed=seed, **options)
    mesh.simplify(RASTERIZER_LIMIT)
    return to_glb(
        vertices=mesh.vertices, faces=mesh.faces, attr_volume=mesh.attrs, coords=mesh.coords, attr_layout=mesh.layout,
        voxel_size=mesh.voxel_size, aabb=[[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]], decimation_target=FACES,
        texture_size=TEXTURE, remesh=True, remesh_band=1, remesh_project=0,
    )  # fmt: skip
