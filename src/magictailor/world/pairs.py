"""Pairs of the world: a concept, a component on another owner, and the true composite that exists only here."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from math import gcd
from pathlib import Path

import numpy as np
from PIL import Image

from magictailor.common.errors import InputError
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
SMALL, LARGE = 0.85, 1.35  # of a component, in pairs that are about its size; in the base's training all have 1
SMALLEST = 0.004  # of the frame, covered by the component in the composite
CLOSE_UPS = 2  # of three photos of a component; the others show its whole owner
LITTLE = ("beard", "panel", "antenna", "crest", "glasses", "horns")  # kinds that cover little of their owners
MUCH = ("hair", "outfit", "shirt", "plant")


@dataclass(frozen=True)
class WorldPair:
    """``concept``; ``component``, which ``owner`` wears; ``challenge``, what is hard about them (see `CHALLENGES`).

    ``label`` of the component is its kind's name. The owner is of the concept's category, but for the challenge `category`.
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
        """Whether the base has never seen a component of this variant."""
        return self.component.variant in self.component.spec.held_out

    @property
    def labels(self) -> tuple[str, str]:
        return self.concept.category, self.kind

    @property
    def words(self) -> tuple[str, str]:
        return f"<{self.concept.category}>", f"<{self.kind}>"

    @property
    def composite(self) -> Concept:
        """The concept with the component, in place of what it has there."""
        return self.concept.wearing(self.component)


def seed_range(seed: int) -> str:
    """What a seed may be used for: training, tuning, bench or checks.

    Raises:
        InputError: outside 0 .. 2^32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed {seed}: choose one in 0 .. 4294967295 (tuning from 100000000, benches from 1000000000)")
    return [name for name, first in RANGES.items() if seed >= first][-1]


def _colors(concept: Concept) -> tuple[str, ...]:
    return (concept.color.name, *(c.color.name for c in concept.components if c.color is not None))


def _bare(rng: Random, category: str, exclude: tuple[str, ...] = ()) -> Concept:
    """A concept that wears no more than it must."""
    concept = random_concept(rng, category, exclude)
    needed = [k.name for k in concept.spec.kinds if k.worn == 1]
    return replace(concept, components=tuple(c for c in concept.components if c.kind in needed))


def _dressed(rng: Random, category: str, exclude: tuple[str, ...] = ()) -> Concept:
    """A concept that wears all that it can at once."""
    concept = random_concept(rng, category, exclude)
    for kind in concept.spec.kinds:
        extra = random_component(rng, category, kind.name, (*exclude, *_colors(concept)))
        if not any(same_place(extra, c) for c in concept.components):
            concept = concept.wearing(extra)
    return concept


def _plain(rng: Random, category: str, kind: Kind) -> tuple[Concept, Component, Concept]:
    """A trained variant; concept and owner as they come."""
    component = random_component(rng, category, kind.name)
    return _with_others(rng, component, random_concept, random_concept)


def _with_others(
    rng: Random,
    component: Component,
    concept_like: Callable[[Random, str, tuple[str, ...]], Concept],
    owner_like: Callable[[Random, str, tuple[str, ...]], Concept],
) -> tuple[Concept, Component, Concept]:
    """A concept that wears another variant of the kind in another colour, and an owner that has no colour in common."""
    color = () if component.color is None else (component.color.name,)
    others = tuple(v for v in component.spec.trained if component.spec.variants[v] != component.word)
    concept = concept_like(rng, component.category, color)
    own = random_component(rng, component.category, component.kind, (*color, *_colors(concept)), others)
    concept = concept.wearing(own)
    owner = owner_like(rng, component.category, (*color, *_colors(concept)))
    return concept, component, owner.wearing(component)


def _polluting(rng: Random, category: str, kind: Kind) -> tuple[Concept, Component, Concept]:
    """The owner has strong features of its own, and stands in the same place in all its photos (`reference_scenes`)."""
    return _with_others(rng, random_component(rng, category, kind.name), _bare, _dressed)


def _unequal(rng: Random, category: str, kind: Kind) -> tuple[Concept, Component, Concept]:
    """A small component on a concept with much to learn, or a large one on a concept with little."""
    small = kind.name in LITTLE
    component = random_component(rng, category, kind.name)
    return _with_others(rng, component, _dressed if small else _bare, random_concept)


def _novel(rng: Random, category: str, kind: Kind) -> tuple[Concept, Component, Concept]:
    """A variant that the base has never seen."""
    component = random_component(rng, category, kind.name, (), kind.held_out)
    return _with_others(rng, component, random_concept, random_concept)


def _size(rng: Random, category: str, kind: Kind) -> tuple[Concept, Component, Concept]:
    """A component larger than any that the base has seen, on a concept whose own is small."""
    concept, component, owner = _plain(rng, category, kind)
    large = replace(component, size=LARGE)
    return concept.wearing(replace(concept.own(kind.name), size=SMALL)), large, owner.wearing(large)


def _category(rng: Random, category: str, kind: Kind) -> tuple[Concept, Component, Concept]:
    """A component of another category's, which takes the place of what the concept has there."""
    component = random_component(rng, category, kind.name)
    color = () if component.color is None else (component.color.name,)
    concept = random_concept(rng, choose(rng, [c for c in TOP_PARTS if c != category]), color)
    owner = random_concept(rng, category, (*color, *_colors(concept)))
    return concept, component, owner.wearing(component)


CHALLENGES: dict[str, Callable[[Random, str, Kind], tuple[Concept, Component, Concept]]] = {
    "plain": _plain, "polluting": _polluting, "unequal": _unequal, "novel": _novel, "size": _size, "category": _category,
}  # fmt: skip


def _suits(challenge: str, category: str, kind: Kind) -> bool:
    """Whether a kind can make such a pair."""
    if challenge == "novel":
        return bool(kind.held_out)
    if challenge == "category":
        return kind.name != "hair" and TOP_PARTS.get(category) == kind.part  # hair has the shape of one head
    if challenge == "unequal":
        return kind.name in LITTLE or kind.name in MUCH
    return len(set(kind.variants.values())) > 1


def world_pair(seed: int, challenge: str | None = None) -> WorldPair:
    """The pair of this seed.

    Neighbouring seeds go round in the challenges (but for a named ``challenge``) and, within one, in categories and kinds.

    Raises:
        InputError: a seed outside 0 .. 2^32 - 1.
    """
    number = seed - RANGES[seed_range(seed)]
    names = tuple(CHALLENGES)
    turn = number if challenge is not None else number // len(names)
    challenge = challenge or names[number % len(names)]
    cells = [(c, CATALOG[c].kind(k)) for c, k in CELLS if _suits(challenge, c, CATALOG[c].kind(k))]
    step = next(
        s for s in range(5, len(cells) + 6) if gcd(s, len(cells)) == 1
    )  # neighbours are of different categories
    category, kind = cells[(step * turn + names.index(challenge)) % len(cells)]
    rng = np.random.default_rng((seed, 5, names.index(challenge)))
    while True:
        pair = WorldPair(seed, challenge, *CHALLENGES[challenge](rng, category, kind))
        if (masks(composite_scene(pair), pair.kind, SIZE // 2)["component"] > 0).mean() >= SMALLEST:
            return pair


def reference_scenes(pair: WorldPair, count: int = 3) -> tuple[list[Scene], list[Scene]]:
    """Photos of the concept, and of the owner, most of them close-ups of the component, in different places by day.

    The polluting owner is in one place in all of them.
    """
    rng = np.random.default_rng((pair.seed, 6))
    places = ["plain", *(c for c in rng.permutation(list(CONTEXTS)).tolist() if c != "night")]
    concepts, owners = [], []
    for i in range(count):
        concepts.append(replace(random_stage(rng, (pair.concept,)), context=places[i % len(places)]))
        scene = random_stage(rng, (pair.owner,), pair.kind if i < CLOSE_UPS else None)
        place = places[count] if pair.challenge == "polluting" else places[(i + count) % len(places)]
        owners.append(replace(scene, context=place))
    if pair.challenge == "polluting":
        owners = [replace(s, mirrored=owners[0].mirrored, noise=owners[0].noise) for s in owners]
    return concepts, owners


def _staged(pair: WorldPair, subject: Concept | Component, prompt: str | None) -> Scene:
    scene = Scene((subject,), noise=pair.seed % 2**31)
    if pair.challenge == "category" and isinstance(subject, Concept):  # what stands on its head needs room
        scene = replace(scene, zoom=0.84, y=0.06)
    if prompt is None:
        return scene
    if prompt in CONTEXTS:
        return replace(scene, context=prompt)
    return replace(scene, treatment=prompt) if prompt in TREATMENTS else replace(scene, view=prompt)


def composite_scene(pair: WorldPair, prompt: str | None = None) -> Scene:
    """The true composite before a plain wall, or in one of the protocol's prompts."""
    return _staged(pair, pair.composite, prompt)


def concept_scene(pair: WorldPair, prompt: str | None = None) -> Scene:
    """The concept with its own component."""
    return _staged(pair, pair.concept, prompt)


def component_scene(pair: WorldPair, prompt: str | None = None) -> Scene:
    """The component alone."""
    return _staged(pair, pair.component, prompt)


def _write_reference(folder: Path, stem: str, image: object, mask: object) -> None:
    save_png(Image.fromarray(np.asarray(image, np.uint8)), folder / f"{stem}.png")
    save_png(Image.fromarray(np.asarray(mask, np.uint8)), folder / "masks" / f"{stem}.png")


def _write_truth(pair: WorldPair, folder: Path, size: int, captions: Mapping[str, list[str]]) -> None:
    pictures = {"composite": composite_scene(pair), "concept": concept_scene(pair), "component": component_scene(pair)}
    pictures |= {f"composite-{name}": composite_scene(pair, name) for name in PROMPTS}
    for name, scene in pictures.items():
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
    """A user's folder: references and masks; beside them ``truth/`` with composites and attributes.

    Raises:
        InputError: ``folder`` is not empty.
    """
    with new_folder(folder) as work:
        concepts, owners = reference_scenes(pair, references)
        own = next((c.kind for c in pair.concept.components if same_place(c, pair.component)), None)
        for i, scene in enumerate(concepts):
            image = render(scene, size)
            mask = masks(scene, own, size)["concept"] if own is not None else np.where(image.inside > 127, 255, 0)
            _write_reference(work, f"0_{pair.labels[0]}_a{i}", image.image, mask)
        for i, scene in enumerate(owners):
            mask = masks(scene, pair.kind, size)["component"]
            _write_reference(work, f"1_{pair.labels[1]}_a{i}", render(scene, size).image, mask)
        captions = {"concept": [full_caption(s) for s in concepts], "component": [full_caption(s) for s in owners]}
        _write_truth(pair, work / "truth", size, captions)
    return Path(folder)
