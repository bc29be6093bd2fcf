"""What there is in the world: instances of concepts and components, and scenes made of them.

Everything is drawn at random from a seed. A caption can name only coarse words (``red``, ``curly``, ``tan skin``); an
instance has its exact variant, continuous colours and a face of its own, so its identity is learned from pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from magictailor.generation.protocol import CONTEXTS, TREATMENTS, VIEWS
from magictailor.world.catalog import CATALOG, CATEGORIES, CELLS, PALETTE, RGB, SKINS, Category, Kind

Random = np.random.Generator
T = TypeVar("T")


@dataclass(frozen=True)
class Color:
    """A colour: the word that captions have for it, and its RGB."""

    name: str
    rgb: RGB

    @property
    def hex(self) -> str:
        return "#{:02x}{:02x}{:02x}".format(*self.rgb)


@dataclass(frozen=True)
class Component:
    """An instance of a part, as the art of ``category`` draws it. ``size`` multiplies its extent."""

    category: str
    kind: str
    variant: str
    color: Color | None
    size: float = 1.0

    @property
    def spec(self) -> Kind:
        return CATALOG[self.category].kind(self.kind)

    @property
    def word(self) -> str:
        """What captions call its variant: ``curly``."""
        return self.spec.variants[self.variant]


@dataclass(frozen=True)
class Concept:
    """An instance of a category. ``identity``: the variants of its nameless parts; ``tints``: its nameless colours."""

    category: str
    color: Color
    identity: tuple[tuple[str, str], ...]
    tints: tuple[tuple[str, Color], ...]
    components: tuple[Component, ...]

    @property
    def spec(self) -> Category:
        return CATALOG[self.category]

    def wearing(self, component: Component) -> "Concept":
        """This concept with ``component`` in place of what it has there."""
        return replace(self, components=(*self.without(component).components, component))

    def without(self, component: Component) -> "Concept":
        """This concept with nothing where ``component`` would be."""
        return replace(self, components=tuple(c for c in self.components if not same_place(c, component)))

    def own(self, kind: str) -> Component:
        return next(c for c in self.components if c.kind == kind)


@dataclass(frozen=True)
class Scene:
    """One picture: subjects (concepts, or components alone), where, in which treatment, and how seen.

    ``x``, ``y`` shift the subject and ``zoom`` scales it, in units of the frame; ``focus`` names the component that fills
    the frame, if one does. ``noise`` seeds what is random in the backdrop.
    """

    subjects: tuple[Concept | Component, ...]
    context: str = "plain"
    treatment: str | None = None
    view: str | None = None
    x: float = 0.0
    y: float = 0.0
    zoom: float = 1.0
    mirrored: bool = False
    focus: str | None = None
    noise: int = 0


# Parts on top of a head, by category: there a component of another category can sit.
TOP_PARTS = {"person": "hair", "kid": "hair", "figure": "top", "robot": "top", "monster": "top", "hero": "hair"}


def place(component: Component) -> str:
    """Where on its owner it is: the same for all that sits on top of a head, else the part."""
    return "top" if TOP_PARTS.get(component.category) == component.spec.part else component.spec.part


def same_place(first: Component, second: Component) -> bool:
    return place(first) == place(second)


def choose(rng: Random, options: Sequence[T]) -> T:
    """One of ``options``, all alike likely."""
    return options[int(rng.integers(len(options)))]


def random_color(rng: Random, exclude: Sequence[str] = (), skin: bool = False) -> Color:
    """A colour near one of the palette's (or of the skins'), whose word is none of ``exclude``."""
    palette = SKINS if skin else PALETTE
    name = choose(rng, [n for n in palette if n not in exclude])
    spread = 9 if skin else 16
    r, g, b = (int(np.clip(v + rng.integers(-spread, spread + 1), 0, 255)) for v in palette[name])
    return Color(name, (r, g, b))


def random_component(
    rng: Random, category: str, kind: str, exclude: Sequence[str] = (), variants: Sequence[str] = ()
) -> Component:
    """A component; ``exclude`` bars colours, ``variants`` are those to choose from (none: all that the base is trained on)."""
    spec = CATALOG[category].kind(kind)
    variant = choose(rng, variants or spec.trained)
    color = random_color(rng, exclude) if spec.color is not None else None
    return Component(category, kind, variant, color)


def worn_kinds(rng: Random, category: Category) -> list[Kind]:
    """Which kinds a new concept wears: of each part at most one, by how many of its category do."""
    chosen = []
    for part in dict.fromkeys(k.part for k in category.kinds):
        u = rng.random()
        for kind in (k for k in category.kinds if k.part == part):
            if u < kind.worn:
                chosen.append(kind)
                break
            u -= kind.worn
    return chosen


def random_concept(
    rng: Random, category: str | None = None, exclude: Sequence[str] = (), held_out: bool = False
) -> Concept:
    """A concept with its components, no two of them of one colour; of held-out variants only if ``held_out``."""
    spec = CATALOG[category or choose(rng, CATEGORIES)]
    color = random_color(rng, exclude, spec.skin)
    identity = tuple((part, choose(rng, variants)) for part, variants in spec.identity.items())
    tints = tuple((name, random_color(rng)) for name in spec.tints)
    components: list[Component] = []
    for kind in worn_kinds(rng, spec):
        taken = (*exclude, color.name, *(c.color.name for c in components if c.color is not None))
        components.append(random_component(rng, spec.name, kind.name, taken, tuple(kind.variants) if held_out else ()))
    return Concept(spec.name, color, identity, tints, tuple(components))


def random_stage(rng: Random, subjects: tuple[Concept | Component, ...], focus: str | None = None) -> Scene:
    """The subjects before a plain wall, with a random place, size and direction."""
    shift = 0.05 if focus is None else 0.03
    return Scene(
        subjects,
        x=float(rng.uniform(-shift, shift)),
        y=float(rng.uniform(-shift, shift)),
        zoom=float(rng.uniform(0.86, 1.06)),
        mirrored=bool(rng.random() < 0.5),
        focus=focus,
        noise=int(rng.integers(2**31)),
    )


def _random_subjects(rng: Random, held_out: bool) -> Scene:
    def part() -> Component:  # each kind alike often, also those that few wear
        category, name = choose(rng, CELLS)
        kind = CATALOG[category].kind(name)
        return random_component(rng, category, name, (), tuple(kind.variants) if held_out else ())

    def owner(component: Component) -> Concept:
        return random_concept(rng, component.category, (), held_out).wearing(component)

    share = rng.random()
    if share < 0.03:
        return random_stage(rng, ())
    if share < 0.07:
        first, second = (choose(rng, CATEGORIES), choose(rng, CATEGORIES))
        return random_stage(rng, tuple(random_concept(rng, c, (), held_out) for c in (first, second)))
    if share < 0.17:
        return random_stage(rng, (part(),))
    if share < 0.29:
        component = part()
        return random_stage(rng, (owner(component),), component.kind)
    if share < 0.45:
        return random_stage(rng, (owner(part()),))
    return random_stage(rng, (random_concept(rng, None, (), held_out),))


def random_scene(seed: int, held_out: bool = False) -> Scene:
    """A training picture. Same seed, same scene. ``held_out``: with held-out variants too, as the judge must know them."""
    rng = np.random.default_rng((seed, 0))
    scene = _random_subjects(rng, held_out)
    if not scene.subjects or rng.random() < 0.55:
        scene = replace(scene, context=choose(rng, tuple(CONTEXTS)))
    if rng.random() < 0.2:
        scene = replace(scene, treatment=choose(rng, tuple(TREATMENTS)))
    whole = scene.focus is None and len(scene.subjects) == 1 and isinstance(scene.subjects[0], Concept)
    if whole and rng.random() < 0.12:
        scene = replace(scene, view=choose(rng, tuple(VIEWS)))
    return scene
