"""Meshes: Shap-E's real classes with tiny random weights, backends behind stand-ins with the real calls, turntables."""

import sys
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from diffusers import HeunDiscreteScheduler, PriorTransformer, ShapEImg2ImgPipeline
from diffusers.pipelines.shap_e import ShapERenderer
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from magictailor.common.errors import InputError
from magictailor.mesh import make_mesh, shap_e
from magictailor.mesh.cutout import cut_out
from magictailor.mesh.make import MeshResult
from magictailor.mesh.turntable import turntable
from magictailor.world.pairs import composite_scene, world_pair
from magictailor.world.render import render
from tiny import Call

WIDTH, LATENT = 16, 16


def _edge(first: int, second: int) -> int:
    """The number of a cube's edge between two corners (bits: x, y, z), in the order that the renderer counts them."""
    axis = (first ^ second).bit_length() - 1
    low = min(first, second)
    others = [bit for bit in range(3) if bit != axis]
    return 4 * axis + ((low >> others[0]) & 1) + 2 * ((low >> others[1]) & 1)


def _triangles(case: int) -> list[tuple[int, int, int]]:
    """Of one case of marching cubes: on each face, lines around each run of corners inside; loops of them, fanned."""
    after: dict[int, int] = {}
    for axis, side in product(range(3), range(2)):
        u, v = (bit for bit in range(3) if bit != axis)
        ring = [(side << axis) | (a << u) | (b << v) for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))]
        if (side == 1) == (axis == 1):
            ring.reverse()
        inside = [bool(case >> corner & 1) for corner in ring]
        for start in range(4):
            if inside[start] and not inside[start - 1]:
                end = start
                while inside[(end + 1) % 4]:
                    end += 1
                leaves = _edge(ring[end % 4], ring[(end + 1) % 4])
                after[leaves] = _edge(ring[start - 1], ring[start])
    found = []
    while after:
        first, edge = after.popitem()
        loop = [first]
        while edge != first:
            loop.append(edge)
            edge = after.pop(edge)
        found += [(loop[0], b, a) for a, b in pairwise(loop[1:])]
    return found


def _with_table(renderer: Any) -> None:
    """The table of marching cubes, which is part of the published weights."""
    cases, used = renderer.mesh_decoder.cases, renderer.mesh_decoder.masks
    for number in range(256):
        for i, triangle in enumerate(_triangles(number)):
            cases[number, i], used[number, i] = torch.tensor(triangle), True


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    torch.manual_seed(0)
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=16, embedding_dim=LATENT, num_embeddings=32, embedding_proj_dim=WIDTH,
        time_embed_dim=64, num_layers=1, clip_embed_dim=2 * LATENT, additional_embeddings=0, time_embed_act_fn="gelu",
        norm_in_type="layer", embedding_proj_norm_type="layer", encoder_hid_proj_type=None, added_emb_type=None,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=WIDTH, image_size=32, projection_dim=WIDTH, intermediate_size=32, num_attention_heads=2,
        num_hidden_layers=1, patch_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    renderer = ShapERenderer(param_shapes=((8, 93), (8, 8), (8, 8), (8, 8)), d_latent=LATENT, d_hidden=8)
    smooth = torch.zeros(93)
    for first in (
        0,
        3,
        48,
    ):  # positions, and their sines and cosines of the lowest frequency: the rest is finer than any grid
        smooth[first : first + 3] = 1
    first_layer, *others = (projection.norm.weight.data for projection in renderer.params_proj.projections.values())
    first_layer.copy_(smooth)
    for weight in others:
        weight.fill_(0.4)
    _with_table(renderer)
    scheduler = HeunDiscreteScheduler(
        beta_schedule="exp",
        num_train_timesteps=1024,
        prediction_type="sample",
        use_karras_sigmas=True,
        clip_sample=True,
    )
    pipeline = ShapEImg2ImgPipeline(
        prior=prior, image_encoder=CLIPVisionModel(vision), scheduler=scheduler, shap_e_renderer=renderer,
        image_processor=CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False),
    )  # fmt: skip
    pipeline.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(shap_e, "GRID", 20)
    return str(tmp_path / "model")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(render(composite_scene(world_pair(100_000_060))).image).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_shap_e_writes_closed_meshes_that_are_read_back(model: str, picture: Path, tmp_path: Path) -> None:
    for end in ("glb", "obj", "ply"):
        made = make_mesh(picture, tmp_path / f"thing.{end}", background="judge", model=model, steps=2)
        read = trimesh.load(made.file, force="mesh", process=False)
        assert made.closed
        assert read.is_watertight
        assert len(read.faces) == made.faces > 50
        assert read.volume > 0  # normals are outside
        assert len(np.unique(np.asarray(read.visual.vertex_colors)[:, :3], axis=0)) > 3
        frames = Image.open(made.animation)
        assert getattr(frames, "n_frames", 1) > 1
        assert np.asarray(Image.open(made.strip)).std() > 5


def test_a_turntable_shows_each_side_of_a_cube() -> None:
    cube = trimesh.creation.box((1, 1, 1))
    cube.visual.face_colors = [
        (255, 0, 0, 255) if normal[2] > 0.5 else (0, 0, 255, 255) for normal in cube.face_normals
    ]
    pictures = [np.asarray(picture, int) for picture in turntable(cube, views=4, size=64)]
    reds = [int(((p[..., 0] > 80) & (p[..., 2] < 40)).sum()) for p in pictures]
    blues = [int(((p[..., 2] > 80) & (p[..., 0] < 40)).sum()) for p in pictures]
    assert reds[0] > 300 > 20 > reds[2]  # in front, then away
    assert blues[2] > 300
    assert all((p[0] == 255).all() and (p[:, 0] == 255).all() for p in pictures)
    assert np.array_equal(pictures[0], np.asarray(turntable(cube, views=4, size=64)[0]))


STAND_INS = {
    "triposr": ("tsr/system.py", """
import trimesh
class _Renderer:
    def set_chunk_size(self, chunk_size): self.size = chunk_size
class TSR:
    renderer = _Renderer()
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, config_name, weight_name): return cls()
    def to(self, device): return self
    def __call__(self, image, device):
        assert image[0].mode == "RGB" and image[0].getpixel((0, 0)) == (127, 127, 127)
        return image
    def extract_mesh(self, scene_codes, has_vertex_color, resolution=256, threshold=25.0):
        return [trimesh.creation.icosphere() for _ in scene_codes]
"""),
    "hunyuan3d-2": ("hy3dgen/shapegen.py", """
import trimesh
class Hunyuan3DDiTFlowMatchingPipeline:
    @classmethod
    def from_pretrained(cls, model_path, device="cuda", dtype=None, use_safetensors=False, variant="fp16"): return cls()
    def __call__(self, image=None, num_inference_steps=50, guidance_scale=5.0, generator=None, octree_resolution=384):
        assert image.mode == "RGBA"
        return [trimesh.creation.icosphere()]
"""),
}  # fmt: skip


def made_by(backend: str, text: str, picture: Path, folder: Path) -> MeshResult:
    """With a stand-in's text as its checkout."""
    file = folder / "checkout" / STAND_INS[backend][0]
    file.parent.mkdir(parents=True)
    (file.parent / "__init__.py").touch()
    file.write_text(text, "utf-8")
    try:
        return make_mesh(
            picture, folder / "thing.glb", backend=backend, background="judge", checkout=str(folder / "checkout")
        )
    finally:
        for module in [name for name in sys.modules if name.split(".")[0] in ("tsr", "hy3dgen")]:
            del sys.modules[module]


@pytest.mark.parametrize("backend", STAND_INS)
def test_backends_of_a_checkout_are_called_as_their_authors_call_them(
    backend: str, picture: Path, tmp_path: Path
) -> None:
    made = made_by(backend, STAND_INS[backend][1], picture, tmp_path)
    assert made.closed
    assert trimesh.load(made.file, force="mesh").is_watertight


@pytest.mark.parametrize("backend", STAND_INS)
def test_weights_that_a_backend_cannot_load_are_one_line(backend: str, picture: Path, tmp_path: Path) -> None:
    text = STAND_INS[backend][1].replace("return cls()", "raise OSError('no network')")
    with pytest.raises(InputError, match=r"cannot be loaded \(no network\); check the name"):
        made_by(backend, text, picture, tmp_path)
    assert not (tmp_path / "thing.glb").exists()


def test_a_cutout_is_a_square_around_the_thing(picture: Path) -> None:
    opened = Image.open(picture)
    square = cut_out(opened, "judge", False, None, "it")
    alpha = np.asarray(square)[..., 3]
    assert square.size[0] == square.size[1]
    assert (alpha[0] == 0).all()
    assert (alpha[:, 0] == 0).all()
    assert 0.1 < (alpha > 127).mean() < 0.8
    wall = Image.new("RGB", (128, 128), (200, 220, 240))
    with pytest.raises(InputError, match="no object was found"):
        cut_out(wall, "judge", False, None, "wall.png")


def test_bad_input_is_one_line(picture: Path, tmp_path: Path, call: Call) -> None:
    Image.new("RGB", (64, 64), (200, 220, 240)).save(tmp_path / "wall.png")
    Image.new("L", (20, 20), 255).save(tmp_path / "mask.png")
    before = sorted(tmp_path.rglob("*"))
    out = ("--output", tmp_path / "thing.glb")
    for arguments, words in (
        ((picture, "--output", tmp_path / "thing.stl"), "not one of .glb, .obj, .ply"),
        ((picture, *out, "--backend", "magic"), "--backend magic: unknown"),
        ((picture, *out, "--backend", "triposr", "--background", "judge"), "git clone"),
        ((picture, *out, "--backend", "triposr", "--background", "judge", "--checkout", tmp_path), "has no tsr/"),
        ((picture, *out, "--backend", "hunyuan3d-2", "--background", "judge"), "Hunyuan3D-2 is not installed"),
        ((picture, *out, "--background", "judge", "--model", tmp_path), "holds no ShapEImg2ImgPipeline"),
        ((picture, *out), "pip install 'rembg[cpu]'"),
        ((picture, *out, "--background", "colour"), "--background colour: unknown"),
        ((picture, *out, "--mask", tmp_path / "mask.png"), "make them the same size"),
        ((tmp_path / "wall.png", *out, "--background", "judge"), "no object was found"),
        ((tmp_path / "none.png", *out), "none.png"),
        ((picture, "a prompt", *out), "PROMPT has no effect next to a picture"),
    ):
        result = call("mesh", *arguments)
        assert (result.code, words in result.err, result.err.count("\n")) == (2, True, 1), result
    assert sorted(tmp_path.rglob("*")) == before
