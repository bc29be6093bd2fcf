"""Judging a generated composite against the truth, by colour alone: a first measure, without a trained judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magictailor.world.pairs import WorldPair, masks
from magictailor.world.render import render
from magictailor.world.scene import Concept, Scene

Floats = NDArray[np.floating[Any]]
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
SHIFTS, ZOOMS = (-0.04, 0.0, 0.04), (0.9, 0.97, 1.04)  # of things in the world's pictures, see scene.random_stage
WHITE = np.array([0.95047, 1.0, 1.08883])  # D65


def cielab(pixels: NDArray[Any]) -> Floats:
    """sRGB 0 .. 255, [..., 3], to CIELAB (D65): L 0 .. 100, a and b about -128 .. 127."""
    srgb = np.asarray(pixels, np.float64) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ XYZ.T / WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def mean_colors(lab: Floats, regions: Sequence[NDArray[np.uint8]]) -> Floats:
    """The mean colour inside each mask (weighted by it), [regions, 3]. ``lab`` [H, W, 3]."""
    return np.stack([(lab * mask[..., None]).sum((0, 1)) / max(1, int(mask.sum(dtype=np.int64))) for mask in regions])


@dataclass(frozen=True)
class Template:
    """Where an alternative's concept and component would be in a picture, and their colours."""

    regions: tuple[NDArray[np.uint8], ...]
    colors: Floats  # CIELAB, [regions, 3]

    def distance(self, lab: Floats) -> float:
        """The sum over regions of the CIELAB distance between the picture's mean colour there and this one's."""
        return float(np.linalg.norm(mean_colors(lab, self.regions) - self.colors, axis=-1).sum())


def _template(concept: Concept, kind: str, scene: Scene) -> Template:
    rendering = render(replace(scene, things=(concept,)))
    regions = tuple(masks(rendering, concept, kind).values())
    return Template(regions, mean_colors(cielab(rendering.image), regions))


def alternatives(pair: WorldPair, others: Sequence[WorldPair]) -> dict[str, list[Template]]:
    """What a generated composite could be, each in the places, sizes and directions that things have in the world.

    ``composite``, the truth; ``own``, the concept with its own component; ``owner``, the component's owner;
    ``other:<seed>``, another pair's composite.
    """
    things = {"composite": pair.composite, "own": pair.concept, "owner": pair.owner}
    kinds = dict.fromkeys(things, pair.kind)
    for other in others:
        things[f"other:{other.seed}"], kinds[f"other:{other.seed}"] = other.composite, other.kind
    places = [
        Scene((), x=x, y=y, zoom=z, mirrored=m) for x in SHIFTS for y in SHIFTS for z in ZOOMS for m in (False, True)
    ]
    return {name: [_template(thing, kinds[name], place) for place in places] for name, thing in things.items()}


def nearest_alternative(generated: Image.Image, choices: Mapping[str, Sequence[Template]]) -> str:
    """The alternative whose best-fitting template is nearest to the picture by colour. For plain prompts."""
    lab = cielab(np.asarray(generated.convert("RGB")))
    return min(choices, key=lambda name: min(template.distance(lab) for template in choices[name]))
