"""Pictures of a mesh from all sides, without a display: samples of its surface, the nearest of which are seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SAMPLES = 400_000
LIGHT = np.array([0.4, 0.7, 0.6]) / np.linalg.norm([0.4, 0.7, 0.6])
AMBIENT = 0.45
TILT = 0.25  # radians that one looks down
FILL = 0.85  # of the picture, that the mesh fills
Floats = NDArray[np.float64]


def _samples(mesh: Any) -> tuple[Floats, Floats, Floats]:
    """Points, normals and colours (0 .. 1) of the surface; always the same."""
    from trimesh import sample

    points, faces = sample.sample_surface(mesh, SAMPLES, seed=0)
    colored = mesh.visual.to_color() if hasattr(mesh.visual, "to_color") else mesh.visual
    if getattr(colored, "kind", None) == "vertex":
        colors = np.asarray(colored.vertex_colors)[mesh.faces[faces]].mean(1)[:, :3] / 255
    else:
        colors = np.asarray(colored.face_colors)[faces][:, :3] / 255
    return np.asarray(points), np.asarray(mesh.face_normals)[faces], colors


def _rotation(angle: float) -> Floats:
    """About the y axis by an angle, then looking down."""
    c, s = np.cos(angle), np.sin(angle)
    u, v = np.cos(TILT), np.sin(TILT)
    return np.array([[1, 0, 0], [0, u, -v], [0, v, u]]) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def turntable(mesh: Any, views: int = 24, size: int = 256) -> list[Image.Image]:
    """Pictures of ``size`` pixels a side on white, all around the y axis, with parallel projection."""
    points, normals, colors = _samples(mesh)
    low, high = mesh.bounds
    points = points - (low + high) / 2
    scale = FILL * size / max(1e-9, 2 * float(np.linalg.norm(points, axis=1).max()))
    return [_picture(points * scale, normals, colors, _rotation(2 * np.pi * i / views), size) for i in range(views)]


def _picture(points: Floats, normals: Floats, colors: Floats, rotation: Floats, size: int) -> Image.Image:
    x, y, depth = rotation @ points.T
    order = np.argsort(depth)  # the nearest are written last
    columns = (x[order] + size / 2).astype(int).clip(0, size - 1)
    rows = (size / 2 - y[order]).astype(int).clip(0, size - 1)
    light = AMBIENT + (1 - AMBIENT) * np.abs(normals @ rotation.T @ LIGHT)[order]
    picture = np.full((size, size, 3), 255, np.uint8)
    picture[rows, columns] = (colors[order] * light[:, None] * 255).clip(0, 255).astype(np.uint8)
    return Image.fromarray(picture)


def strip(pictures: Sequence[Image.Image], count: int = 8) -> list[Image.Image]:
    """``count`` of the pictures, evenly around."""
    return [pictures[i * len(pictures) // count] for i in range(count)]
