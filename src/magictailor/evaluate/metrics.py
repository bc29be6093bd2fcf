"""What a picture is scored by: each metric behind one small interface."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from PIL import Image

from magictailor.world.embedded import SIZE
from magictailor.world.pairs import WorldPair
from magictailor.world.scene import CONTEXTS
from magictailor.world.truth import Template, alternatives, cielab, nearest_alternative

RECOLOURED = "night"  # the one place that changes a thing's colours


@dataclass(frozen=True)
class Asked:
    """What a picture was to show. ``world``: its pair's truth, if it is of the world."""

    prompt: str
    words: Sequence[str]
    world: WorldPair | None = None


class Metric(Protocol):
    """``model``: what exactly judges. ``higher``: whether more is better, by figure."""

    model: str
    higher: dict[str, bool]

    def score(self, image: Image.Image, asked: Asked) -> dict[str, float]:
        """Figures of one picture by name; none where the metric does not apply."""
        ...


@dataclass
class TruthByColour:
    """On pairs of the world: whether the colours are nearest to the true composite, and how far from it they are."""

    model: str = "templates of the true composite, CIELAB (world/truth.py)"
    higher: dict[str, bool] = field(default_factory=lambda: {"composite": True, "distance": False})
    _choices: dict[int, dict[str, list[Template]]] = field(default_factory=dict)

    @cached_property
    def _places(self) -> set[str]:
        return {f", {text}" for name, text in CONTEXTS.items() if name != RECOLOURED} | {""}

    def _applies(self, asked: Asked) -> bool:
        """To the composite, in places that leave its colours alone; not to styles and views."""
        concept, component = asked.words[0], " and ".join(asked.words[1:])
        together = f"{concept} with {component}"
        before, said, after = asked.prompt.partition(together)
        return bool(said) and before in ("", "a photo of ") and after in self._places

    def score(self, image: Image.Image, asked: Asked) -> dict[str, float]:
        if asked.world is None or not self._applies(asked):
            return {}
        pair = asked.world
        choices = self._choices.setdefault(pair.seed, alternatives(pair, ()))
        image = image.convert("RGB")
        if image.size != (SIZE, SIZE):  # templates are drawn at the world's own size
            image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        lab = cielab(np.asarray(image))
        distance = min(template.distance(lab) for template in choices["composite"])
        nearest = nearest_alternative(image, choices)
        return {"composite": float(nearest == "composite"), "distance": distance}


def known_metrics() -> list[Metric]:
    return [TruthByColour()]
