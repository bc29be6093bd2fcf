"""Judging a generated composite against the truth, by colour alone: a first measure, without a trained judge."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magictailor.world.pairs import WorldPair, composite_scene, concept_scene, masks
from magictailor.world.render import render
from magictailor.world.scene import Concept, Scene

Floats = NDArray[np.floating[Any]]
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])  # D65


def cielab(pixels: Floats) -> Floats:
    """sRGB 0 .. 255, [..., 3], to CIELAB (D65): L 0 .. 100, a and b about -128 .. 127."""
    srgb = np.asarray(pixels, np.float64) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ XYZ.T / WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def region_colors(image: Image.Image, regions: Sequence[NDArray[np.uint8]]) -> Floats:
    """The mean CIELAB colour of the picture inside each mask (above 127), [regions, 3]."""
    lab = cielab(np.asarray(image.convert("RGB"), np.float64))
    return np.stack([lab[mask > 127].mean(0) for mask in regions])


def _own_colors(scene: Scene, concept: Concept, kind: str) -> tuple[Floats, list[NDArray[np.uint8]]]:
    """A render's own colours in its own masks (concept, component), and the masks."""
    rendering = render(scene)
    regions = list(masks(rendering, concept, kind).values())
    return region_colors(Image.fromarray(rendering.image), regions), regions


def nearest_alternative(generated: Image.Image, pair: WorldPair, others: Sequence[WorldPair]) -> str:
    """What a composite generated on a plain prompt looks most like: the sum of both regions' CIELAB distances.

    Its colours are read in the true composite's regions. Alternatives: ``composite``, the truth; ``own``, the
    concept with its own component; ``owner``, the component's owner; ``other:<seed>``, another pair's composite.
    """
    alternatives = {
        "composite": (composite_scene(pair), pair.composite, pair.kind),
        "own": (concept_scene(pair), pair.concept, pair.kind),
        "owner": (Scene((pair.owner,)), pair.owner, pair.kind),
        **{f"other:{o.seed}": (composite_scene(o), o.composite, o.kind) for o in others},
    }
    colors = {name: _own_colors(*what) for name, what in alternatives.items()}
    found = region_colors(generated, colors["composite"][1])
    distances = {name: float(np.linalg.norm(c - found, axis=-1).sum()) for name, (c, _) in colors.items()}
    return min(distances, key=distances.__getitem__)
