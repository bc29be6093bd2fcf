"""A mesh of a picture, or of what a run generates, with its turntable."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from magictailor.common.errors import InputError, check_choice
from magictailor.common.events import Listener, Notice, Progress, ignore
from magictailor.common.files import MARK, output_file, write_atomically
from magictailor.common.pictures import MADE, grid, save_png
from magictailor.data.images import load_image
from magictailor.generation.checks import check_prompt
from magictailor.mesh.contract import Backend, import_trimesh
from magictailor.mesh.cutout import cut_out
from magictailor.mesh.turntable import strip, turntable
from magictailor.training.run_folder import finished_run

FORMATS = (".glb", ".obj", ".ply")
BACKENDS = ("shap-e", "triposr", "instantmesh", "hunyuan3d-2", "trellis-2")
CUDA_ONLY = ("instantmesh", "trellis-2")
FRAME_MS = 80


@dataclass(frozen=True)
class MeshResult:
    """``file``: the mesh. ``strip``, ``animation``: its turntable. ``closed``: whether its surface has no holes."""

    file: Path
    strip: Path
    animation: Path
    vertices: int
    faces: int
    closed: bool


def _turntables(mesh: Path) -> tuple[Path, Path]:
    """The still and the moving one beside it."""
    return mesh.with_name(f"{mesh.stem}-turntable.png"), mesh.with_name(f"{mesh.stem}-turntable.gif")


def _check_source(source: Path, prompt: str | None) -> None:
    """Raises InputError for a source that has no picture to give."""
    if source.is_dir():
        words = list(finished_run(source)[1].words)
        if prompt is None:
            raise InputError("is missing", f"write one, for instance {' with '.join(words)!r}", field="prompts")
        check_prompt(prompt, words)
    elif prompt is not None:
        raise InputError("has no effect next to a picture", "leave it out", field="prompts")
    else:
        load_image(source)


def _picture(source: Path, prompt: str | None, seed: int) -> tuple[Image.Image, bool]:
    """The picture, and whether it is the embedded base's."""
    if prompt is None:
        return load_image(source)[0], False
    from magictailor.api import load

    run = load(source)
    (item,) = run.generate(prompt, seed=seed)
    return item.image, run.backbone.family.startswith("embedded")


def _backend(name: str, model: str | None, device: str, checkout: str | None) -> Backend:
    """Loaded; those that import torch are imported here."""
    from magictailor.mesh.checkouts import Hunyuan3D, TripoSR
    from magictailor.mesh.own_python import InstantMesh, Trellis2
    from magictailor.mesh.shap_e import ShapE

    if name == "shap-e":
        return ShapE(model, device)
    kinds: dict[str, Any] = {
        "triposr": TripoSR,
        "instantmesh": InstantMesh,
        "hunyuan3d-2": Hunyuan3D,
        "trellis-2": Trellis2,
    }
    return kinds[name](model, device, checkout)


def make_mesh(
    source: Path | str,
    output: Path | str,
    *,
    prompt: str | None = None,
    backend: str = "shap-e",
    background: str = "auto",
    mask: Path | str | None = None,
    model: str | None = None,
    checkout: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    steps: int | None = None,
    listen: Listener = ignore,
) -> MeshResult:
    """Make a mesh of the object in a picture, and pictures of it from all sides.

    Args:
        source: a picture, or the folder of a finished run, which generates ``prompt``.
        output: a .glb, .obj or .ply file; the turntable goes next to it.
        backend: shap-e, triposr, instantmesh, hunyuan3d-2 or trellis-2.
        background: auto, judge, rembg or keep, see `magictailor.mesh.cutout`.
        mask: white on the object, in the picture's size; instead of ``background``.
        model: the backend's weights, a folder or a hub's name; None: the usual ones.
        checkout: the folder of the backend's own code, where it is not a package.

    Raises:
        InputError: nothing in the picture, no such backend, checkout or weights; nothing has been written.
    """
    target = output_file(output, FORMATS, b"trimesh")
    for beside in _turntables(target):
        output_file(beside, (beside.suffix,))
    check_choice(backend, BACKENDS, "backend")
    if mask is not None and background != "auto":
        raise InputError(f"{background}: has no effect next to a mask", "leave one of them out", field="background")
    if checkout is not None and backend == "shap-e":
        raise InputError("has no effect on shap-e", "leave it out", field="checkout")
    if backend in CUDA_ONLY and not device.startswith("cuda"):
        raise InputError(f"{device}: {backend} runs only on CUDA", "choose cuda", field="device")
    _check_source(Path(source), prompt)
    import_trimesh()
    from magictailor.common.distributed import device_named

    device_named(device)
    picture, embedded = _picture(Path(source), prompt, seed)
    cut = cut_out(picture, background, embedded, mask, str(source))
    loaded = _backend(backend, model, device, checkout)
    listen(Notice(f"{backend}: its licence is {loaded.licence}"))
    listen(Progress("mesh", 0, 2))
    mesh = _whole(loaded.mesh(cut, seed, steps), backend)
    listen(Progress("mesh", 1, 2))
    pictures = turntable(mesh)
    listen(Progress("mesh", 2, 2))
    return _written(mesh, target, cut, pictures)


def _whole(mesh: Any, backend: str) -> Any:
    """The mesh with holes closed and normals outside; one with a texture as it is, because its seams are no holes."""
    if not len(mesh.faces):
        raise InputError(f"{backend}: its surface is empty", "try another seed or picture", field="seed")
    if _has_texture(mesh):
        return mesh
    if not mesh.is_watertight:
        mesh.merge_vertices()
        mesh.fill_holes()
    mesh.fix_normals()
    return mesh


def _has_texture(mesh: Any) -> bool:
    return mesh.visual.kind == "texture"


def _is_closed(mesh: Any) -> bool:
    """Whether the surface has no holes; the seams of a texture are none."""
    return bool((_without_texture(mesh) if _has_texture(mesh) else mesh).is_watertight)


def _without_texture(mesh: Any) -> Any:
    """A copy with the texture's colours at its vertices, and without seams."""
    plain = mesh.copy()
    plain.visual = plain.visual.to_color()
    plain.merge_vertices(merge_tex=True, merge_norm=True)
    return plain


def _written(mesh: Any, target: Path, cut: Image.Image, pictures: list[Image.Image]) -> MeshResult:
    kind, closed = target.suffix.lower().lstrip("."), _is_closed(mesh)
    if kind != "glb" and _has_texture(mesh):
        mesh = _without_texture(mesh)  # the other formats would need files next to them
    write_atomically(target, lambda temporary: mesh.export(temporary, file_type=kind))
    still, animation = _turntables(target)
    save_png(grid([[cut, *strip(pictures)]], cell=pictures[0].width), still, MADE)
    first, *rest = pictures
    options: dict[str, Any] = {"append_images": rest, "duration": FRAME_MS, "loop": 0, "comment": MARK}
    write_atomically(animation, lambda temporary: first.save(temporary, "GIF", save_all=True, **options))
    return MeshResult(target, still, animation, len(mesh.vertices), len(mesh.faces), closed)
