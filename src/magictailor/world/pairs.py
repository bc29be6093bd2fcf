"""Pairs of the world: a concept, a component on another owner, and their true composite."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from math import gcd
from pathlib import Path

import numpy as np
from PIL import Image

from magictailor.common.errors import InputError, check_choice
from magictailor.common.files import new_folder, write_json
from magictailor.common.pictures import save_png
from magictailor.generation.protocol import CONTEXTS, PROMPTS, TREATMENTS
from magictailor.world.captions import full_caption
from magictailor.world.catalog import CATALOG, CELLS, Kind
from magictailor.world.render import SIZE, masks, render
from magictailor.world.scene import (
    TOP_PARTS,
    Component,
    Concept,
    Random,
    Scene,
    choose,
    random_component,
    random_concept,
    random_stage,
    same_place,
)

RANGES = {"training": 0, "tuning": 10**8, "bench": 10**9, "checks": 2 * 10**9}
SMALL, LARGE = 0.85, 1.35  # sizes of components in the challenge "size"; in the base's training all have 1
MIN_AREA = 0.004  # fraction of the frame that the component must cover in the composite
CLOSE_UPS = 2  # of three photos of a component; the others show its whole owner
SMALL_KINDS = ("beard", "panel", "antenna", "crest", "glasses", "horns")  # they cover little of their owners
LARGE_KINDS = ("hair", "outfit", "shirt", "plant")


@dataclass(frozen=True)
class WorldPair:
    """A concept, and a component that ``owner`` has. ``challenge``: what makes the pair difficult, see `CHALLENGES`.

    The component's label is the name of its kind. The owner has the concept's category, except in the challenge
    ``category``.
    """

    seed: int
    challenge: str
    concept: Concept
    component: Component
    owner: Concept

    @property
    def kind(self) -> str:
        return self.component.kind

    @property
    def held_out(self) -> bool:
        """Whether the base was trained without this variant of the component."""
        return self.component.variant in self.component.spec.held_out

    @property
    def labels(self) -> tuple[str, str]:
        return self.concept.category, self.kind

    @property
    def words(self) -> tuple[str, str]:
        return f"<{self.concept.category}>", f"<{self.kind}>"

    @property
    def composite(self) -> Concept:
        """The concept with the component instead of its own."""
        return self.concept.wearing(self.component)


def seed_range(seed: int) -> str:
    """The use that a seed is reserved for: training, tuning, bench or checks.

    Raises:
        InputError: outside 0 .. 2^32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise InputError(
            f"{seed}: out of range",
            "choose one in 0 .. 4294967295 (tuning from 100000000, benches from 1000000000)",
            field="seed",
        )
    return [name for name, first in RANGES.items() if seed >= first][-1]


def _colors(concept: Concept) -> tuple[str, ...]:
    return (concept.color.name, *(c.color.name for c in concept.components if c.color is not None))


def _bare(rng: Random, category: str, exclude: tuple[str, ...] = ()) -> Concept:
    """A concept with only the components that its whole category has."""
    concept = random_concept(rng, category, exclude)
    needed = [k.name for k in concept.spec.kinds if k.worn == 1]
    return replace(concept, components=tuple(c for c in concept.components if c.kind in needed))


def _dressed(rng: Random, category: str, exclude: tuple[str, ...] = ()) -> Concept:
    """A concept with as many components as possible."""
    concept = random_concept(rng, category, exclude)
    for kind in concept.spec.kinds:
        extra = random_component(rng, category, kind.name, (*exclude, *_colors(concept)))
        if not any(same_place(extra, c) for c in concept.components):
            concept = concept.wearing(extra)
    return concept


def _plain(rng: Random, category: str, kind: Kind) -> tuple[Concept, Component, Concept]:
    """A trained variant; concept and owner are random."""
    component = random_component(rng, category, kind.name)
    return _with_others(rng, component, random_concept, random_concept)


def _with_others(
    rng: Random,
    component: Component,
    random_concept_for: Callable[[Random, str, tuple[str, ...]], Concept],
    owner_like: Callable[[Random, str, tuple[str, ...]], Concept],
) -> tuple[Concept, Component, Concept]:
    """A concept with another variant of the kind in another colour, and an owner without common colours."""
    color = () if component.color is None else (component.color.name,)
    others = tuple(v for v in component.spec.trained if component.spec.variants[v] != component.word)
    concept = random_concept_for(rng, component.category, color)
    own = random_component(rng, component.category, component.kind, (*color, *_colors(concept)), others)
    concept = concept.wearing(own)
    owner = owner_like(rng, component.category, (*color, *_colors(concept)))
    return concept, component, owner.wearing(component)


def _polluting(rng: Random, category: str, kind: Kind) -> tuple[Concept, Component, Concept]:
    """The owner has many other components, and the same context in all its photos (`reference_scenes`)."""
    return _with_others(rng, random_component(rng, category, kind.name), _bare, _dressed)


def _unequal(rng: Random, category: str, kind: Kind) -> tuple[Concept, Component, Concept]:
    """A small component for a concept with many components, or a large one for a concept with few."""
    small = kind.name in SMALL_KINDS
    component = random_component(rng, category, kind.name)
    return _with_others(rng, component, _dressed if small else _bare, random_concept)


def _novel(rng: Random, category: str, kind: Kind) -> tuple[Concept, Component, Concept]:
    """A variant that is not in the base's training."""
    component = random_component(rng, category, kind.name, (), kind.held_out)
    return _with_others(rng, component, random_concept, random_concept)


def _size(rng: Random, category: str, kind: Kind) -> tuple[Concept, Component, Concept]:
    """A component larger than any in the base's training, for a concept with a small one."""
    concept, component, owner = _plain(rng, category, kind)
    large = replace(component, size=LARGE)
    return concept.wearing(replace(concept.own(kind.name), size=SMALL)), large, owner.wearing(large)


def _category(rng: Random, category: str, kind: Kind) -> tuple[Concept, Component, Concept]:
    """A component of another category, which replaces the concept's component in that place."""
    component = random_component(rng, category, kind.name)
    color = () if component.color is None else (component.color.name,)
    concept = random_concept(rng, choose(rng, [c for c in TOP_PARTS if c != category]), color)
    owner = random_concept(rng, category, (*color, *_colors(concept)))
    return concept, component, owner.wearing(component)


CHALLENGES: dict[str, Callable[[Random, str, Kind], tuple[Concept, Component, Concept]]] = {
    "plain": _plain, "polluting": _polluting, "unequal": _unequal, "novel": _novel, "size": _size, "category": _category,
}  # fmt: skip


def _is_suitable(challenge: str, category: str, kind: Kind) -> bool:
    """Whether a kind can be the component of such a pair."""
    if challenge == "novel":
        return bool(kind.held_out)
    if challenge == "category":
        return (
            kind.name != "hair" and TOP_PARTS.get(category) == kind.part
        )  # hair fits only the head of its own category
    if challenge == "unequal":
        return kind.name in SMALL_KINDS or kind.name in LARGE_KINDS
    return len(set(kind.variants.values())) > 1


def world_pair(seed: int, challenge: str | None = None) -> WorldPair:
    """The pair of this seed.

    Successive seeds take turns in the challenges (unless one is given) and, within a challenge, in categories and kinds.

    Raises:
        InputError: a seed outside 0 .. 2^32 - 1, or an unknown challenge.
    """
    if challenge is not None:
        check_choice(challenge, CHALLENGES, "challenge")
    number = seed - RANGES[seed_range(seed)]
    names = tuple(CHALLENGES)
    turn = number if challenge is not None else number // len(names)
    challenge = challenge or names[number % len(names)]
    cells = [(c, CATALOG[c].kind(k)) for c, k in CELLS if _is_suitable(challenge, c, CATALOG[c].kind(k))]
    step = next(
        s for s in range(5, len(cells) + 6) if gcd(s, len(cells)) == 1
    )  # successive pairs have different categories
    category, kind = cells[(step * turn + names.index(challenge)) % len(cells)]
    rng = np.random.default_rng((seed, 5, names.index(challenge)))
    while True:
        pair = WorldPair(seed, challenge, *CHALLENGES[challenge](rng, category, kind))
        if (masks(composite_scene(pair), pair.kind, SIZE // 2)["component"] > 0).mean() >= MIN_AREA:
            return pair


def reference_scenes(pair: WorldPair, count: int = 3) -> tuple[list[Scene], list[Scene]]:
    """Scenes of the concept's photos, and of the owner's, most of them close-ups of the component.

    Contexts differ, and none is at night. A polluting owner has one context in all its photos.
    """
    rng = np.random.default_rng((pair.seed, 6))
    contexts = ["plain", *(c for c in rng.permutation(list(CONTEXTS)).tolist() if c != "night")]
    concepts, owners = [], []
    for i in range(count):
        concepts.append(replace(random_stage(rng, (pair.concept,)), context=contexts[i % len(contexts)]))
        scene = random_stage(rng, (pair.owner,), pair.kind if i < CLOSE_UPS else None)
        context = contexts[count] if pair.challenge == "polluting" else contexts[(i + count) % len(contexts)]
        owners.append(replace(scene, context=context))
    if pair.challenge == "polluting":
        owners = [replace(s, mirrored=owners[0].mirrored, noise=owners[0].noise) for s in owners]
    return concepts, owners


def _staged(pair: WorldPair, subject: Concept | Component, prompt: str | None) -> Scene:
    scene = Scene((subject,), noise=pair.seed % 2**31)
    if pair.challenge == "category" and isinstance(subject, Concept):  # the component on its head needs space
        scene = replace(scene, zoom=0.84, y=0.06)
    return prompted(scene, prompt)


def prompted(scene: Scene, prompt: str | None) -> Scene:
    """The scene for one of the protocol's prompts, or as it is."""
    if prompt is None:
        return scene
    if prompt in CONTEXTS:
        return replace(scene, context=prompt)
    return replace(scene, treatment=prompt) if prompt in TREATMENTS else replace(scene, view=prompt)


def composite_scene(pair: WorldPair, prompt: str | None = None) -> Scene:
    """The true composite before a plain wall, or for one of the protocol's prompts."""
    return _staged(pair, pair.composite, prompt)


def concept_scene(pair: WorldPair, prompt: str | None = None) -> Scene:
    """The concept with its own component."""
    return _staged(pair, pair.concept, prompt)


def component_scene(pair: WorldPair, prompt: str | None = None) -> Scene:
    """The component alone."""
    return _staged(pair, pair.component, prompt)


def write_reference(folder: Path, stem: str, image: object, mask: object) -> None:
    save_png(Image.fromarray(np.asarray(image, np.uint8)), folder / f"{stem}.png")
    save_png(Image.fromarray(np.asarray(mask, np.uint8)), folder / "masks" / f"{stem}.png")


def _write_truth(pair: WorldPair, folder: Path, size: int, captions: Mapping[str, list[str]]) -> None:
    scenes = {"composite": composite_scene(pair), "concept": concept_scene(pair), "component": component_scene(pair)}
    scenes |= {f"composite-{name}": composite_scene(pair, name) for name in PROMPTS}
    for name, scene in scenes.items():
        save_png(Image.fromarray(render(scene, size).image), folder / f"{name}.png")
    attributes = {
        "seed": pair.seed, "range": seed_range(pair.seed), "challenge": pair.challenge, "held out": pair.held_out,
        "words": pair.words, "captions": captions,
    }  # fmt: skip
    instances = {
        k: asdict(v) for k, v in (("concept", pair.concept), ("component", pair.component), ("owner", pair.owner))
    }
    write_json(folder / "attributes.json", {**attributes, **instances})


def write_pair(pair: WorldPair, folder: Path, size: int = SIZE, references: int = 3) -> Path:
    """Write the pair as a user's folder of photos and masks, and ``truth/`` with composites and attributes.

    Raises:
        InputError: ``folder`` is not empty.
    """
    with new_folder(folder) as work:
        concepts, owners = reference_scenes(pair, references)
        own = next((c.kind for c in pair.concept.components if same_place(c, pair.component)), None)
        for i, scene in enumerate(concepts):
            image = render(scene, size)
            mask = masks(scene, own, size)["concept"] if own is not None else np.where(image.inside > 127, 255, 0)
            write_reference(work, f"0_{pair.labels[0]}_a{i}", image.image, mask)
        for i, scene in enumerate(owners):
            mask = masks(scene, pair.kind, size)["component"]
            write_reference(work, f"1_{pair.labels[1]}_a{i}", render(scene, size).image, mask)
        captions = {"concept": [full_caption(s) for s in concepts], "component": [full_caption(s) for s in owners]}
        _write_truth(pair, work / "truth", size, captions)
    return Path(folder)
