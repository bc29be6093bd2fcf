"""The images of docs/world.md: `python benchmarks/world_pictures.py docs/images` (base.webp and base-dit.webp are made of a training's samples.png)."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from magictailor.backbones import load_backbone
from magictailor.common.pictures import grid
from magictailor.generation.protocol import CONTEXTS, TREATMENTS
from magictailor.world.catalog import CATALOG
from magictailor.world.checks import binding_checks
from magictailor.world.pairs import CHALLENGES, composite_scene, reference_scenes, world_pair
from magictailor.world.render import masks, render
from magictailor.world.scene import Scene, random_concept
from magictailor.world.training.samples import round_trip_sheet

SHOWN = dict(zip(CHALLENGES, (3, 1, 2, 9, 4, 5), strict=True))  # tuning pairs, by challenge


def rendered(scene: Scene) -> Image.Image:
    return Image.fromarray(render(scene).image)


def contexts() -> Image.Image:
    """Nine contexts, then the tenth and the treatments."""
    checks, images = binding_checks(), []
    for i, name in enumerate((*CONTEXTS, *TREATMENTS)):
        scene = checks[(3 * i + 1) % len(checks)].scene
        context = name if name in CONTEXTS else ("flowers", "beach")[i % 2]
        images.append(rendered(replace(scene, context=context, treatment=None if name in CONTEXTS else name)))
    names = (*CONTEXTS, *TREATMENTS)
    titles = [f"{a} / {b}" for a, b in zip(names[:9], names[9:], strict=True)]
    return grid([images[:9], images[9:]], column_titles=titles)


def pairs() -> Image.Image:
    """A pair of each challenge: two photos of the concept, three of the component, a mask, the true composite."""
    rows, titles = [], []
    for challenge, number in SHOWN.items():
        pair = world_pair(10**8 + number, challenge)
        concepts, owners = reference_scenes(pair)
        mask = Image.fromarray(np.asarray(masks(owners[0], pair.kind)["component"])).convert("RGB")
        rows.append([*map(rendered, (*concepts[:2], *owners)), mask, rendered(composite_scene(pair))])
        titles.append(f"{challenge}: {', '.join(pair.labels)}")
    return grid(rows, titles, ["concept", "", "component", "", "", "its mask", "true composite"])


def round_trips() -> Image.Image:
    """A character of each category without components, above what the embedded autoencoder makes of it."""
    rng = np.random.default_rng(0)
    scenes = [Scene((replace(random_concept(rng, name), components=()),)) for name in CATALOG]
    images = torch.from_numpy(np.stack([render(scene).image for scene in scenes]))
    return round_trip_sheet(load_backbone("embedded", precision="fp32").autoencoder, images)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    contexts().save(folder / "places.webp", quality=90, method=6)
    pairs().save(folder / "pairs.webp", quality=90, method=6)
    round_trips().save(folder / "round-trips.webp", quality=85, method=6)
