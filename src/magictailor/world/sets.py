"""Sets of the world: a concept and several components, each on an owner of its own, and their true composite."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import gcd
from pathlib import Path

import numpy as np
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.common.files import new_folder, write_json
from magictailor.common.pictures import save_png
from magictailor.generation.protocol import CONTEXTS, PROMPTS
from magictailor.world.captions import full_caption
from magictailor.world.catalog import CATALOG, CATEGORIES, Kind
from magictailor.world.pairs import CLOSE_UPS, MIN_AREA, RANGES, prompted, seed_range, write_reference
from magictailor.world.render import SIZE, component_masks, masks, render
from magictailor.world.scene import (
    Component,
    Concept,
    Random,
    Scene,
    random_component,
    random_concept,
    random_stage,
)

MOST = 3  # components of a set: with the concept, four samples


@dataclass(frozen=True)
class WorldSet:
    """A concept and components in different places, ``owners[i]`` with ``components[i]``, all of one category."""

    seed: int
    concept: Concept
    components: tuple[Component, ...]
    owners: tuple[Concept, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        return self.concept.category, *(c.kind for c in self.components)

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(f"<{label}>" for label in self.labels)

    @property
    def composite(self) -> Concept:
        """The concept with all components instead of its own."""
        made = self.concept
        for component in self.components:
            made = made.wearing(component)
        return made


def _places(category: str) -> list[list[Kind]]:
    """The kinds of each part of a category that a set can choose from."""
    parts: dict[str, list[Kind]] = {}
    for kind in CATALOG[category].kinds:
        if len(set(kind.variants.values())) > 1:
            parts.setdefault(kind.part, []).append(kind)
    return list(parts.values())


def world_set(seed: int, components: int) -> WorldSet:
    """The set of this seed. Successive seeds take turns in the categories that have so many places.

    Raises:
        InputError: a seed outside 0 .. 2^32 - 1, or a number of components outside 2 .. `MOST`.
    """
    if not 2 <= components <= MOST:
        raise InputError(
            f"{components}: out of range", f"choose 2 .. {MOST}, or world_pair for one", field="components"
        )
    number = seed - RANGES[seed_range(seed)]
    categories = [c for c in CATEGORIES if len(_places(c)) >= components]
    step = next(s for s in range(2, len(categories) + 3) if gcd(s, len(categories)) == 1)
    category = categories[step * number % len(categories)]
    rng = np.random.default_rng((seed, 12, components))
    while True:
        made = _random_set(rng, seed, category, components)
        _, areas = component_masks(composite_scene(made), SIZE // 2)
        kinds = [c.kind for c in made.composite.components]
        if all(areas[kinds.index(c.kind)].mean() >= MIN_AREA for c in made.components):
            return made


def _random_set(rng: Random, seed: int, category: str, count: int) -> WorldSet:
    """No two components share a colour, and the concept wears others in their places, in other colours."""
    places = _places(category)
    chosen = [places[i] for i in sorted(rng.choice(len(places), count, replace=False))]
    kinds = [place[int(rng.integers(len(place)))] for place in chosen]
    taken: list[str] = []
    components = []
    for kind in kinds:
        component = random_component(rng, category, kind.name, taken)
        taken += [component.color.name] if component.color is not None else []
        components.append(component)
    concept = random_concept(rng, category, taken)
    for component in components:
        others = [v for v in component.spec.trained if component.spec.variants[v] != component.word]
        concept = concept.wearing(random_component(rng, category, component.kind, [*taken, concept.color.name], others))
    owners = []
    for component in components:
        owner = random_concept(rng, category, taken)
        for other in components:  # one without a colour may be there by chance
            owner = owner.without(other) if other in owner.components else owner
        owners.append(owner.wearing(component))
    return WorldSet(seed, concept, tuple(components), tuple(owners))


def composite_scene(made: WorldSet, prompt: str | None = None) -> Scene:
    """The true composite before a plain wall, or for one of the protocol's prompts."""
    return prompted(Scene((made.composite,), noise=made.seed % 2**31), prompt)


def reference_scenes(made: WorldSet, counts: Sequence[int]) -> list[list[Scene]]:
    """Scenes of the photos of each sample, the concept's first; most photos of a component are close-ups of it."""
    rng = np.random.default_rng((made.seed, 13))
    places = ["plain", *(c for c in rng.permutation(list(CONTEXTS)).tolist() if c != "night")]
    found: list[list[Scene]] = []
    for number, (subject, count) in enumerate(zip((made.concept, *made.owners), counts, strict=True)):
        focus = None if number == 0 else made.components[number - 1].kind
        scenes = [random_stage(rng, (subject,), focus if i < CLOSE_UPS else None) for i in range(count)]
        found.append([replace(s, context=places[(i + number) % len(places)]) for i, s in enumerate(scenes)])
    return found


def _concept_mask(made: WorldSet, scene: Scene, size: int) -> np.ndarray:
    """The concept without its own components in the places of the set's."""
    opaque, parts = component_masks(scene, size)
    for component, part in zip(made.concept.components, parts, strict=True):
        if component.kind in made.labels[1:]:
            opaque = opaque & ~part
    return opaque.astype(np.uint8) * 255


def write_set(made: WorldSet, folder: Path, size: int = SIZE, counts: Sequence[int] | None = None) -> Path:
    """Write the set as a user's folder of photos and masks, and ``truth/`` with composites and attributes.

    Args:
        counts: photos of each sample, the concept first; three of each, unless given.

    Raises:
        InputError: ``folder`` is not empty.
    """
    with new_folder(folder) as work:
        samples = reference_scenes(made, counts or [3] * len(made.labels))
        for number, (label, scenes) in enumerate(zip(made.labels, samples, strict=True)):
            for i, scene in enumerate(scenes):
                mask = masks(scene, label, size)["component"] if number else _concept_mask(made, scene, size)
                write_reference(work, f"{number}_{label}_a{i}", render(scene, size).image, mask)
        truth = {"composite": composite_scene(made), "concept": Scene((made.concept,), noise=made.seed % 2**31)}
        truth |= {f"composite-{name}": composite_scene(made, name) for name in PROMPTS}
        for name, scene in truth.items():
            save_png(Image.fromarray(render(scene, size).image), work / "truth" / f"{name}.png")
        attributes = {
            "seed": made.seed, "range": seed_range(made.seed), "words": made.words,
            "captions": [[full_caption(scene) for scene in scenes] for scenes in samples], **asdict(made),
        }  # fmt: skip
        write_json(work / "truth" / "attributes.json", attributes)
    return Path(folder)
