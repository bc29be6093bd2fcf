"""Concepts, components and scenes, generated at random from a seed.

Captions name only coarse attributes (``red``, ``curly``, ``tan skin``). An instance also has an exact variant, continuous
colours and a face, so its identity can be learned only from images.
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
    """A colour: its word in captions, and its RGB."""

    name: str
    rgb: RGB

    @property
    def hex(self) -> str:
        return "#{:02x}{:02x}{:02x}".format(*self.rgb)


@dataclass(frozen=True)
class Component:
    """An instance of a kind of component, in the style of ``category``. ``size`` multiplies its extent."""

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
        """The word for its variant in captions: ``curly``."""
        return self.spec.variants[self.variant]


@dataclass(frozen=True)
class Concept:
    """An instance of a category. ``identity`` and ``tints``: the variants and colours that captions do not name."""

    category: str
    color: Color
    identity: tuple[tuple[str, str], ...]
    tints: tuple[tuple[str, Color], ...]
    components: tuple[Component, ...]

    @property
    def spec(self) -> Category:
        return CATALOG[self.category]

    def wearing(self, component: Component) -> "Concept":
        """This concept with ``component`` instead of its own component in that place."""
        return replace(self, components=(*self.without(component).components, component))

    def without(self, component: Component) -> "Concept":
        """This concept with no component in the place of ``component``."""
        return replace(self, components=tuple(c for c in self.components if not same_place(c, component)))

    def own(self, kind: str) -> Component:
        """Its component of this kind."""
        return next(c for c in self.components if c.kind == kind)


@dataclass(frozen=True)
class Scene:
    """A description of one image: its subjects (concepts, or components alone), context, treatment and view.

    ``x``, ``y`` shift the subject and ``zoom`` scales it, in units of the frame; ``focus`` names the component that fills
    the frame, if one does. ``noise`` is the seed of the backdrop.
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


# The part on top of the head, by category. A component of another category can replace it.
TOP_PARTS = {"person": "hair", "kid": "hair", "figure": "top", "robot": "top", "monster": "top", "hero": "hair"}


def place(component: Component) -> str:
    """Its place on its owner: "top" for all parts on top of a head, else the part."""
    return "top" if TOP_PARTS.get(component.category) == component.spec.part else component.spec.part


def same_place(first: Component, second: Component) -> bool:
    return place(first) == place(second)


def choose(rng: Random, options: Sequence[T]) -> T:
    """One of ``options`` with equal probabilities."""
    return options[int(rng.integers(len(options)))]


def random_color(rng: Random, exclude: Sequence[str] = (), skin: bool = False) -> Color:
    """A colour near one of the palette's (or of the skins'), except those with a word in ``exclude``."""
    palette = SKINS if skin else PALETTE
    name = choose(rng, [n for n in palette if n not in exclude])
    spread = 9 if skin else 16
    r, g, b = (int(np.clip(v + rng.integers(-spread, spread + 1), 0, 255)) for v in palette[name])
    return Color(name, (r, g, b))


def random_component(
    rng: Random, category: str, kind: str, exclude: Sequence[str] = (), variants: Sequence[str] = ()
) -> Component:
    """A random component. ``exclude``: words of colours. ``variants``: the choices; empty: all that the base is trained on."""
    spec = CATALOG[category].kind(kind)
    variant = choose(rng, variants or spec.trained)
    color = random_color(rng, exclude) if spec.color is not None else None
    return Component(category, kind, variant, color)


def random_kinds(rng: Random, category: Category) -> list[Kind]:
    """The kinds of component that a new concept has: at most one per part, with the frequencies of its category."""
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
    """A random concept. Its components have different colours, and held-out variants only if ``held_out``."""
    spec = CATALOG[category or choose(rng, CATEGORIES)]
    color = random_color(rng, exclude, spec.skin)
    identity = tuple((part, choose(rng, variants)) for part, variants in spec.identity.items())
    tints = tuple((name, random_color(rng)) for name in spec.tints)
    components: list[Component] = []
    for kind in random_kinds(rng, spec):
        taken = (*exclude, color.name, *(c.color.name for c in components if c.color is not None))
        components.append(random_component(rng, spec.name, kind.name, taken, tuple(kind.variants) if held_out else ()))
    return Concept(spec.name, color, identity, tints, tuple(components))


def random_stage(rng: Random, subjects: tuple[Concept | Component, ...], focus: str | None = None) -> Scene:
    """The subjects before a plain wall, with random position, size and direction."""
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
    def component_of_any_kind() -> Component:  # rare kinds as often as common ones
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
        return random_stage(rng, (component_of_any_kind(),))
    if share < 0.29:
        component = component_of_any_kind()
        return random_stage(rng, (owner(component),), component.kind)
    if share < 0.45:
        return random_stage(rng, (owner(component_of_any_kind()),))
    return random_stage(rng, (random_concept(rng, None, (), held_out),))


def random_scene(seed: int, held_out: bool = False) -> Scene:
    """The training scene of this seed. ``held_out``: also with held-out variants, which the judge must know."""
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
