"""How good the judge is, on scenes that no training has seen: the figures that stand under every table."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from magictailor.world.embedded import SIZE
from magictailor.world.judge import Judge
from magictailor.world.judgement import Judgement, judged
from magictailor.world.labels import (
    DISTANCES,
    FILTERS,
    PLACES,
    UNKNOWN,
    drawn_with_labels,
    instances,
    named,
    of_picture,
)
from magictailor.world.scene import Component, Concept, Scene, random_scene
from magictailor.world.training.bank import to_pixels
from magictailor.world.truth import cielab

COVERED = 20  # pixels: of smaller parts nothing is asked
Figures = Iterator[tuple[str, float]]


@torch.no_grad()
def through(autoencoder: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Pixels [N, 3, H, W] in [-1, 1] as the base's autoencoder gives them back."""
    decoded: Tensor = autoencoder.decode(autoencoder.encode(pixels).latent_dist.mean).sample
    return decoded.float().clamp(-1, 1)


def clear(scene: Scene) -> bool:
    """Whether no filter and no night hides what things look like."""
    return scene.treatment is None and scene.context != "night"


def _of_thing(thing: Concept | Component, there: NDArray[np.bool_], told: Judgement) -> Figures:
    kind = thing.category if isinstance(thing, Concept) else thing.kind
    seen = told.things.get(kind)
    found = seen.mask if seen is not None else np.zeros_like(there)
    yield "mask overlap", float((found & there).sum() / (found | there).sum())
    yield "found", float(seen is not None)
    if seen is None:
        return
    if isinstance(thing, Component):
        yield "style", float(seen.name == named(thing))
    yield "pattern", float(seen.pattern == thing.surface.pattern)
    surface = thing.surface
    shades = (
        ("color", "accent") if surface.pattern == "striped" else ("color",)
    )  # of stripes nobody can tell which is the ground
    errors = [np.linalg.norm(seen.colors[s] - cielab(np.array(surface.color))) for s in shades if s in seen.colors]
    if errors:
        yield "color error", float(min(errors))
    true = thing.build if isinstance(thing, Concept) else (thing.size,)
    yield "size error", float(np.abs(seen.sizes - np.array(true)).mean())


def _of_picture(scene: Scene, told: Judgement) -> Figures:
    place, treatment, distance = of_picture(scene)
    yield "context", float(told.place == PLACES[place])
    yield "filter", float(told.filter == FILTERS[treatment])
    if distance != UNKNOWN:
        yield "view", float(told.distance == DISTANCES[distance])
    if len(scene.things) == 1 and isinstance(scene.things[0], Concept):
        yield "category", float(told.category == scene.things[0].category)


def _means(scenes: Sequence[Scene], labels: Sequence[NDArray[np.uint8]], told: Sequence[Judgement]) -> dict[str, float]:
    """Over the given pictures; of things, over those that cover enough."""
    found: dict[str, list[float]] = defaultdict(list)
    for scene, label, judgement in zip(scenes, labels, told, strict=True):
        figures = list(_of_picture(scene, judgement))
        for owner, thing in instances(scene).items():
            there = label[..., 3] == owner
            if there.sum() >= COVERED:
                figures += _of_thing(thing, there, judgement)
        for name, value in figures:
            found[name].append(value)
    return {name: round(float(np.mean(values)), 4) for name, values in sorted(found.items())}


def judge_scores(network: Judge, autoencoder: AutoencoderKL, seeds: range) -> dict[str, dict[str, float]]:
    """On renders by day without filters; on the same through the base's autoencoder; and on filtered ones and the night."""
    scenes = [random_scene(seed) for seed in seeds]
    labels = [drawn_with_labels(scene, SIZE) for scene in scenes]

    def scored(wanted: bool, encoded: bool) -> dict[str, float]:
        chosen = [i for i, scene in enumerate(scenes) if clear(scene) == wanted]
        images = np.stack([labels[i][..., :3] for i in chosen])
        if encoded:
            parts = [
                through(autoencoder, to_pixels(part, torch.device("cpu")))
                for part in np.array_split(images, max(1, len(images) // 64))
            ]
            images = ((torch.cat(parts) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        told = judged(network, list(images))
        return {
            "pictures": float(len(chosen)),
            **_means([scenes[i] for i in chosen], [labels[i] for i in chosen], told),
        }

    return {"renders": scored(True, False), "autoencoder": scored(True, True), "filtered": scored(False, False)}
