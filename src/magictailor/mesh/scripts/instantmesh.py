"""InstantMesh: Zero123++ makes six views of the picture, a reconstruction model makes a mesh of the views."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MODEL, VIEWS_MODEL = "TencentARC/InstantMesh", "zero123plus-v1.2"
VIEWS_OWNER = "sudo-ai"
UNET, WEIGHTS, CONFIG = "diffusion_pytorch_model.bin", "instant_mesh_large.ckpt", "configs/instant-mesh-large.yaml"
PREFIX = "lrm_generator."  # of the reconstruction model in its weights
STEPS, FOV, DISTANCE = 75, 30.0, 4.0  # of the views: denoising steps, degrees, and how far their cameras are
ROWS, COLUMNS, SIDE = 3, 2, 320  # of the picture with all views
FILL = 0.85  # of the picture's side, that the object has


def load(checkout: Path, model: str | None, device: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    """The pipeline of views, the reconstruction model, its cameras and its settings."""
    import torch
    import yaml
    from diffusers import EulerAncestralDiscreteScheduler

    views = import_module("zero123plus.pipeline").Zero123PlusPipeline  # the checkout's own copy, and none of the hub
    cameras = import_module("src.utils.camera_util").get_zero123plus_input_cameras
    config = yaml.safe_load((checkout / CONFIG).read_text("utf-8"))
    folder = Path(model or MODEL).expanduser()
    local = folder / VIEWS_MODEL
    source = str(local) if local.is_dir() else f"{VIEWS_OWNER}/{VIEWS_MODEL}"
    six_views = views.from_pretrained(source, torch_dtype=torch.float16, use_safetensors=True)
    six_views.scheduler = EulerAncestralDiscreteScheduler.from_config(
        six_views.scheduler.config, timestep_spacing="trailing"
    )
    six_views.unet.load_state_dict(_tensors(folder, model, UNET))
    network = import_module("src.utils.train_util").instantiate_from_config(config["model_config"])
    tensors = _tensors(folder, model, WEIGHTS)["state_dict"]
    network.load_state_dict({name[len(PREFIX) :]: t for name, t in tensors.items() if name.startswith(PREFIX)})
    network = network.to(device).eval()
    network.init_flexicubes_geometry(device, fovy=FOV)
    return six_views.to(device), network, cameras(batch_size=1, radius=DISTANCE).to(device), config["infer_config"]


def _tensors(folder: Path, model: str | None, name: str) -> dict[str, Any]:
    """Of a pickle, which may hold nothing but tensors and plain values: no code of it is run."""
    import torch
    from huggingface_hub import hf_hub_download

    file = folder / name if folder.is_dir() else hf_hub_download(model or MODEL, name)
    return torch.load(file, map_location="cpu", weights_only=True)


def _fitted(picture: Image.Image) -> Image.Image:
    """A square picture whose object has ``FILL`` of its side."""
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox()
    assert box is not None, "a cutout shows something"
    side = round(max(box[2] - box[0], box[3] - box[1]) / FILL)
    left, top = (box[0] + box[2] - side) // 2, (box[1] + box[3] - side) // 2
    return picture.crop((left, top, left + side, top + side))


def make(loaded: tuple[Any, Any, Any, dict[str, Any]], picture: Image.Image, seed: int, steps: int | None) -> Any:
    """A mesh with colours at its vertices, y up."""
    import torch
    import trimesh

    pipeline, network, cameras, settings = loaded
    torch.manual_seed(seed)  # the pipeline takes from these numbers, whatever generator it is given
    sheet = np.asarray(pipeline(_fitted(picture), num_inference_steps=steps or STEPS).images[0], np.float32) / 255
    split = torch.from_numpy(sheet).reshape(ROWS, SIDE, COLUMNS, SIDE, 3).permute(0, 2, 4, 1, 3)
    views = split.reshape(1, ROWS * COLUMNS, 3, SIDE, SIDE).to(cameras.device)
    with torch.no_grad():
        planes = network.forward_planes(views, cameras)
        vertices, faces, colors = network.extract_mesh(planes, use_texture_map=False, **settings)
    # It has z up, and x to the viewer; a cycle of the axes mirrors nothing, as its own .obj files are.
    return trimesh.Trimesh(vertices[:, [1, 2, 0]], faces, vertex_colors=colors, process=False)
