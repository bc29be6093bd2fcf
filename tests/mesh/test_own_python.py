"""Backends in a Python of their own, by stand-ins of their code with the real calls' signatures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from diffusers import EulerAncestralDiscreteScheduler, UNet2DConditionModel
from PIL import Image

from magictailor.common.errors import InputError, RunError
from magictailor.mesh import make, make_mesh
from magictailor.mesh.make import MeshResult
from magictailor.mesh.own_python import InstantMesh, OwnPython, Trellis2
from tiny import Call

INSTANTMESH = {
    "zero123plus/pipeline.py": """
import numpy, torch
from PIL import Image
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
class Zero123PlusPipeline(DiffusionPipeline):
    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
    def __call__(self, image=None, prompt="", *args, num_images_per_prompt=1, guidance_scale=4.0, depth_image=None,
                 output_type="pil", width=640, height=960, num_inference_steps=28, return_dict=True, **kwargs):
        assert not kwargs and num_inference_steps == 5
        assert (self.unet.conv_in.bias == 7).all() and self.unet.dtype == torch.float16
        assert self.scheduler.config.timestep_spacing == "trailing"
        alpha = numpy.asarray(image)[..., 3] > 127
        assert image.mode == "RGBA" and abs(max(alpha.any(0).sum(), alpha.any(1).sum()) / image.width - 0.85) < 0.02
        sheet = numpy.zeros((height, width, 3), numpy.uint8)
        for number in range(6):  # two in a row, from the left
            row, column = divmod(number, 2)
            sheet[320 * row : 320 * (row + 1), 320 * column : 320 * (column + 1)] = 40 * number
        sheet[0, 0] = int(torch.randint(256, ()))
        return ImagePipelineOutput(images=[Image.fromarray(sheet)])
""",
    "src/utils/camera_util.py": """
import torch
def get_zero123plus_input_cameras(batch_size=1, radius=4.0, fov=30.0):
    assert (radius, fov) == (4.0, 30.0)
    return torch.zeros(batch_size, 6, 16)
""",
    "src/utils/train_util.py": """
import importlib
def instantiate_from_config(config):
    module, name = config["target"].rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**config.get("params", dict()))
""",
    # Like its own world: x to the viewer, y to the right, z up.
    "src/models/lrm_mesh.py": """
import numpy, torch
class InstantMesh(torch.nn.Module):
    def __init__(self, grid_res=128, grid_scale=2.0):
        super().__init__()
        assert (grid_res, grid_scale) == (32, 2.1)
        self.size = torch.nn.Parameter(torch.zeros(()))
    def init_flexicubes_geometry(self, device, fovy=50.0): self.fovy = fovy
    def forward_planes(self, images, cameras):
        assert images.shape == (1, 6, 3, 320, 320) and cameras.shape == (1, 6, 16) and not self.training
        assert [round(v * 255) for v in images[0, :, :, 300, 300].mean(1).tolist()] == [0, 40, 80, 120, 160, 200]
        return images[:, 0, :, :1, :1]
    def extract_mesh(self, planes, use_texture_map=False, texture_resolution=1024, **kwargs):
        assert not use_texture_map and self.fovy == 30.0 and kwargs["render_resolution"] == 512
        vertices = numpy.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]) * self.size.item()
        first = round(planes[0, 0, 0, 0].item() * 255)
        colors = numpy.array([[first] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255]], numpy.uint8)
        return vertices, numpy.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]), colors
""",
    "configs/instant-mesh-large.yaml": """
model_config:
  target: src.models.lrm_mesh.InstantMesh
  params: {grid_res: 32, grid_scale: 2.1}
infer_config: {unet_path: ckpts/unet.bin, model_path: ckpts/mesh.ckpt, texture_resolution: 1024, render_resolution: 512}
""",
}
TRELLIS = {
    "trellis2/pipelines/__init__.py": """
import torch
class MeshWithVoxel:
    vertices, faces, attrs, coords = (torch.zeros(1, 3) for _ in range(4))
    layout, voxel_size = {"base_color": slice(0, 3)}, 1 / 1024
    simplified = None
    def simplify(self, target=1000000, verbose=False, options={}): MeshWithVoxel.simplified = target
class Trellis2ImageTo3DPipeline:
    @classmethod
    def from_pretrained(cls, path, config_file="pipeline.json"):
        assert path == "microsoft/TRELLIS.2-4B"
        return cls()
    def cuda(self): self.moved = True
    def run(self, image, num_samples=1, seed=42, sparse_structure_sampler_params={}, shape_slat_sampler_params={},
            tex_slat_sampler_params={}, preprocess_image=True, return_latent=False, pipeline_type=None, max_num_tokens=49152):
        assert self.moved and image.mode == "RGBA" and image.getchannel("A").getextrema()[0] == 0 and seed == 3
        assert sparse_structure_sampler_params == shape_slat_sampler_params == tex_slat_sampler_params == {"steps": 5}
        return [MeshWithVoxel()]
""",
    "o_voxel/__init__.py": "from . import postprocess",
    "o_voxel/postprocess.py": """
import numpy, trimesh
from PIL import Image
def to_glb(vertices, faces, attr_volume, coords, attr_layout, aabb, voxel_size=None, grid_size=None,
           decimation_target=1000000, texture_size=2048, remesh=False, remesh_band=1, remesh_project=0.9,
           mesh_cluster_threshold_cone_half_angle_rad=1.57, mesh_cluster_refine_iterations=0,
           mesh_cluster_global_iterations=1, mesh_cluster_smooth_strength=1, verbose=False, use_tqdm=False):
    from trellis2.pipelines import MeshWithVoxel
    assert MeshWithVoxel.simplified == 16777216 and aabb == [[-0.5] * 3, [0.5] * 3] and voxel_size == 1 / 1024
    box = trimesh.creation.box((1, 1, 1))
    box.unmerge_vertices()  # each face is a chart of its own
    texture = Image.fromarray(numpy.repeat(numpy.array([[[255, 0, 0, 255], [0, 0, 255, 255]]], numpy.uint8), 4, 1))
    uv = numpy.where(box.vertices[:, :1] > 0, 0.9, 0.1).repeat(2, 1)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=texture)
    return trimesh.Trimesh(box.vertices, box.faces, process=False, visual=trimesh.visual.TextureVisuals(uv=uv, material=material))
""",
}
KINDS: dict[str, type[OwnPython]] = {"instantmesh": InstantMesh, "trellis-2": Trellis2}
FILES = {"instantmesh": INSTANTMESH, "trellis-2": TRELLIS}


@pytest.fixture(autouse=True)
def on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "CUDA_ONLY", ())


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """InstantMesh's, as its authors publish them, and Zero123++'s in diffusers format."""
    folder = tmp_path / "weights"
    views = folder / "zero123plus-v1.2"
    views.mkdir(parents=True)
    torch.manual_seed(0)
    blocks = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",)}
    sizes = {"block_out_channels": (8,), "norm_num_groups": 4, "attention_head_dim": 2, "cross_attention_dim": 8}
    unet = UNet2DConditionModel(sample_size=8, layers_per_block=1, **blocks, **sizes)
    unet.save_pretrained(views / "unet")
    EulerAncestralDiscreteScheduler().save_pretrained(views / "scheduler")
    index: dict[str, Any] = {"_class_name": "Zero123PlusPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    index["scheduler"] = ["diffusers", "EulerAncestralDiscreteScheduler"]
    (views / "model_index.json").write_text(json.dumps(index), "utf-8")
    torch.nn.init.constant_(unet.conv_in.bias, 7)
    torch.save(unet.state_dict(), folder / "diffusion_pytorch_model.bin")
    tensors = {"lrm_generator.size": torch.tensor(2.0), "lpips.size": torch.tensor(1.0)}
    torch.save({"state_dict": tensors}, folder / "instant_mesh_large.ckpt")
    return folder


Maker = Callable[..., MeshResult]


@pytest.fixture
def made_by(tmp_path: Path) -> Maker:
    """A mesh by a backend, whose code is the stand-in's with some text replaced."""
    red = np.zeros((64, 64, 3), np.uint8)
    Image.fromarray(red + 90).save(tmp_path / "picture.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[10:50, 20:44] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")

    def run(backend: str, output: str = "thing.glb", old: str = "", new: str = "", **options: Any) -> MeshResult:
        checkout = tmp_path / "checkout"
        for name, text in FILES[backend].items():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            (checkout / name).write_text(text.replace(old, new) if old else text, "utf-8")
        given = {"checkout": str(checkout), "seed": 3, "steps": 5, "mask": tmp_path / "mask.png", **options}
        return make_mesh(tmp_path / "picture.png", tmp_path / output, backend=backend, **given)

    return run


def test_instantmesh_is_called_as_its_authors_call_it_and_turned_upright(made_by: Maker, weights: Path) -> None:
    made = made_by("instantmesh", model=str(weights))
    read = trimesh.load(made.file, force="mesh", process=False)
    assert made.closed
    assert read.volume > 0
    tips = {tuple(color[:3]): tuple(tip) for color, tip in zip(read.visual.vertex_colors.tolist(), read.vertices)}
    assert tips[255, 0, 0] == (0, 0, 2)  # what it has in front looks at us,
    assert tips[0, 255, 0] == (4, 0, 0)  # what is to the right stays to the right,
    assert tips[0, 0, 255] == (0, 6, 0)  # and up is up
    first = int(torch.randint(256, (), generator=torch.Generator().manual_seed(3)))
    assert tips[first, first, first] == (0, 0, 0)  # its views are drawn from the seed


def test_trellis_2_keeps_its_texture_and_its_seams_are_no_holes(made_by: Maker) -> None:
    made = made_by("trellis-2")
    read = trimesh.load(made.file, force="mesh", process=False)
    assert read.visual.kind == "texture"
    assert (made.closed, made.faces, len(read.faces)) == (True, 12, 12)
    strip = np.asarray(Image.open(made.strip), int).reshape(-1, 3)
    assert ((strip[:, 0] > 80) & (strip[:, 2] < 40)).any()  # red is seen
    assert ((strip[:, 2] > 80) & (strip[:, 0] < 40)).any()  # and blue
    plain = made_by("trellis-2", "thing.ply")
    read = trimesh.load(plain.file, force="mesh", process=False)
    colors = read.visual.vertex_colors
    assert read.is_watertight
    assert {tuple(color) for color in colors[:, :3].tolist()} == {(255, 0, 0), (0, 0, 255)}
    assert sorted(p.name for p in plain.file.parent.glob("thing*.p*")) == ["thing-turntable.png", "thing.ply"]


class Code:
    """What a pickle could do when it is opened."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("opened"),))


def test_what_goes_wrong_in_it_is_one_line(
    made_by: Maker, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"InstantMesh is not installed \(No module named 'nvdiffrast'\); git clone"):
        made_by("instantmesh", old="import numpy, torch\nclass", new="import nvdiffrast\nclass", model=str(weights))
    with pytest.raises(InputError, match=r"microsoft/TRELLIS.2-4B: cannot be loaded \(no network\); check the name"):
        made_by("trellis-2", old="return cls()", new="raise OSError('no network')")
    with pytest.raises(RunError, match=r"TRELLIS.2 stopped \(RuntimeError: CUDA out of memory\)"):
        made_by("trellis-2", old="return [MeshWithVoxel()]", new="raise RuntimeError('CUDA out of memory')")
    torch.save({"state_dict": Code()}, weights / "instant_mesh_large.ckpt")
    with pytest.raises(InputError, match=r"model .*: cannot be loaded"):
        made_by("instantmesh", model=str(weights))
    assert not (tmp_path / "opened").exists()
    assert not list(tmp_path.glob("thing*"))


def test_a_checkout_is_needed_and_its_own_python_is_used(made_by: Maker, tmp_path: Path) -> None:
    for kind in KINDS.values():
        with pytest.raises(InputError, match=f"{kind.name} is not a package; git clone"):
            kind(None, "cuda", None)
        with pytest.raises(InputError, match=f"has no {kind.holds}, so it is not a checkout of {kind.name}"):
            kind(None, "cuda", str(tmp_path))
    python = tmp_path / "checkout" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho its own python >&2\nexit 1\n", "utf-8")
    python.chmod(0o755)
    with pytest.raises(RunError, match="its own python"):
        made_by("trellis-2")
    python.chmod(0o644)
    with pytest.raises(InputError, match="python: Permission denied; git clone"):
        made_by("trellis-2")


def test_without_cuda_it_is_refused_first(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for backend in KINDS:
        result = call("mesh", tmp_path / "none.png", "--output", tmp_path / "thing.glb", "--backend", backend)
        assert (result.code, result.err.count("\n")) == (2, 1), result
        assert f"--device cpu: {backend} runs only on CUDA; choose cuda" in result.err
