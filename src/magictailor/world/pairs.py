"""Pairs of the world: a concept, a component on another owner, and the true composite that exists only here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from magictailor.errors import InputError
from magictailor.files import new_folder, write_json
from magictailor.pictures import save_png
from magictailor.world.captions import full_caption
from magictailor.world.parts import PLACES
from magictailor.world.render import BODY, Rendering, render
from magictailor.world.scene import (
    CONTEXTS,
    PROMPTS,
    SLOTS,
    TREATMENTS,
    Component,
    Concept,
    Random,
    Scene,
    random_component,
    random_concept,
    random_stage,
)

KINDS = tuple((category, kind) for category, kinds in SLOTS.items() for kind in kinds)
RANGES = {"training": 0, "tuning": 10**8, "bench": 10**9, "checks": 2 * 10**9}
SMALL, LARGE = 0.8, 1.6  # sizes of the difficult pairs; others have 0.85 .. 1.2
DIFFICULTIES = ("size", "category")
SMALLEST = 20  # pixels of the component in the composite, at 64 px
SHARE = 0.05  # of the frame, for a component's reference


@dataclass(frozen=True)
class WorldPair:
    """``concept`` wears its own component of the kind; ``owner``, of the concept's category, wears ``component``."""

    seed: int
    concept: Concept
    component: Component
    owner: Concept
    difficulty: str | None = None

    @property
    def kind(self) -> str:
        return self.component.kind

    @property
    def labels(self) -> tuple[str, str]:
        return self.concept.category, self.kind

    @property
    def words(self) -> tuple[str, str]:
        return f"<{self.concept.category}>", f"<{self.kind}>"

    @property
    def composite(self) -> Concept:
        """The concept with the component, in place of its own one there."""
        if self.difficulty != "category":
            return self.concept.wearing(self.component)
        others = tuple(c for c in self.concept.components if PLACES[c.kind] != PLACES[self.kind])
        return replace(self.concept, components=(*others, self.component))


def seed_range(seed: int) -> str:
    """What a seed may be used for: training, tuning, bench or checks.

    Raises:
        InputError: outside 0 .. 2^32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed {seed}: choose one in 0 .. 4294967295 (tuning from 100000000, benches from 1000000000)")
    return [name for name, first in RANGES.items() if seed >= first][-1]


def _wearing(rng: Random, category: str, kind: str, part: Component, taken: tuple[str, ...]) -> Concept:
    """A new concept with this part, and only components of its own category."""
    concept = random_concept(rng, category, taken)
    own = tuple(c for c in concept.components if c.kind in SLOTS[category] and c.kind != kind)
    return replace(concept, components=(part, *own))


def world_pair(seed: int, difficulty: str | None = None) -> WorldPair:
    """The pair of this seed. Concept, its own component, owner and component have four different colours.

    ``difficulty``: size, a component twice as large as the concept's own and larger than any that the base has seen;
    category, a component of another category's things, which takes the place of what the concept has there.

    Raises:
        InputError: a seed outside 0 .. 2^32 - 1.
    """
    seed_range(seed)
    assert difficulty is None or difficulty in DIFFICULTIES
    rng = np.random.default_rng((seed, 5))
    category, kind = KINDS[rng.integers(len(KINDS))]
    while True:
        own = random_component(rng, kind)
        component = random_component(rng, kind, (own.surface.name,), (own.style,))
        taken = (own.surface.name, component.surface.name)
        if difficulty == "size":
            own, component = replace(own, size=SMALL), replace(component, size=LARGE)
        if difficulty == "category":
            others = [c for c in SLOTS if c != category and kind not in SLOTS[c]]
            concept = _without(random_concept(rng, others[rng.integers(len(others))], taken), kind)
        else:
            concept = _wearing(rng, category, kind, own, taken)
        owner = _wearing(rng, category, kind, component, (*taken, concept.surface.name))
        pair = WorldPair(seed, concept, component, owner, difficulty)
        if int((masks(render(composite_scene(pair)), pair.composite, kind)["component"] > 127).sum()) >= SMALLEST:
            return pair


def _without(concept: Concept, kind: str) -> Concept:
    return replace(concept, components=tuple(c for c in concept.components if c.kind != kind))


def masks(
    rendering: Rendering, concept: Concept, kind: str
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """The concept without its component of this kind, and that component: uint8 [S, S], 255 inside."""
    owners = {c.kind: BODY + 1 + i for i, c in enumerate(concept.components)}
    rest = [BODY, *(n for k, n in owners.items() if k != kind)]
    return {"concept": rendering.mask(*rest), "component": rendering.mask(*(n for k, n in owners.items() if k == kind))}


def reference_scenes(pair: WorldPair, count: int = 3) -> tuple[list[Scene], list[Scene]]:
    """The concept, and the owner with the component close up, in different places by day."""
    rng = np.random.default_rng((pair.seed, 6))
    places = ["plain", *(c for c in rng.permutation(list(CONTEXTS)).tolist() if c != "night")]
    concepts, owners = [], []
    for i in range(count):
        concepts.append(replace(random_stage(rng, (pair.concept,)), context=places[i % len(places)]))
        scene = replace(random_stage(rng, (pair.owner,)), context=places[(i + count) % len(places)])
        close = replace(scene, focus=pair.kind, x=scene.x / 2, y=scene.y / 2)
        mask = masks(render(close), pair.owner, pair.kind)["component"]
        owners.append(close if i < count - 1 and mask.mean() / 255 >= SHARE else scene)
    return concepts, owners


def _staged(pair: WorldPair, thing: Concept | Component, prompt: str | None) -> Scene:
    scene = Scene((thing,), noise=pair.seed % 2**31)
    if prompt is None:
        return scene
    if prompt in CONTEXTS:
        return replace(scene, context=prompt)
    return replace(scene, treatment=prompt) if prompt in TREATMENTS else replace(scene, view=prompt)


def composite_scene(pair: WorldPair, prompt: str | None = None) -> Scene:
    """The true composite on a plain wall, or in one of `scene.PROMPTS`."""
    return _staged(pair, pair.composite, prompt)


def concept_scene(pair: WorldPair, prompt: str | None = None) -> Scene:
    """The concept with its own component."""
    return _staged(pair, pair.concept, prompt)


def component_scene(pair: WorldPair, prompt: str | None = None) -> Scene:
    """The component alone."""
    return _staged(pair, pair.component, prompt)


def _write_reference(folder: Path, stem: str, rendering: Rendering, mask: object) -> None:
    save_png(Image.fromarray(rendering.image), folder / f"{stem}.png")
    save_png(Image.fromarray(np.asarray(mask, np.uint8)), folder / "masks" / f"{stem}.png")


def _write_truth(pair: WorldPair, folder: Path, size: int, captions: Mapping[str, list[str]]) -> None:
    pictures = {"composite": composite_scene(pair), "concept": concept_scene(pair), "component": component_scene(pair)}
    pictures |= {f"composite-{name}": composite_scene(pair, name) for name in PROMPTS}
    for name, scene in pictures.items():
        save_png(Image.fromarray(render(scene, size).image), folder / f"{name}.png")
    attributes = {"seed": pair.seed, "range": seed_range(pair.seed), "words": pair.words, "captions": captions}
    if pair.difficulty is not None:
        attributes["difficulty"] = pair.difficulty
    instances = {
        k: asdict(v) for k, v in (("concept", pair.concept), ("component", pair.component), ("owner", pair.owner))
    }
    write_json(folder / "attributes.json", {**attributes, **instances})


def write_pair(pair: WorldPair, folder: Path, size: int = 64, references: int = 3) -> Path:
    """A user's folder: references and masks; beside them ``truth/`` with composites and attributes.

    Raises:
        InputError: ``folder`` is not empty.
    """
    with new_folder(folder) as work:
        concepts, owners = reference_scenes(pair, references)
        sides = ((concepts, pair.concept, "concept"), (owners, pair.owner, "component"))
        for number, (scenes, thing, side) in enumerate(sides):
            for i, scene in enumerate(scenes):
                rendering = render(scene, size)
                mask = masks(rendering, thing, pair.kind)[side]
                _write_reference(work, f"{number}_{pair.labels[number]}_a{i}", rendering, mask)
        captions = {"concept": [full_caption(s) for s in concepts], "component": [full_caption(s) for s in owners]}
        _write_truth(pair, work / "truth", size, captions)
    return Path(folder)
