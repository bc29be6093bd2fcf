"""What there is in the world: instances of concepts and components, and scenes made of them.

Everything is drawn at random from a seed. A caption can name only coarse bins (``red``, ``striped``,
``long``); an instance has continuous colours and proportions, so its identity is learned from pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

RGB = tuple[int, int, int]
Random = np.random.Generator

PALETTE: dict[str, RGB] = {
    "red": (212, 38, 38),
    "orange": (245, 132, 30),
    "yellow": (250, 216, 52),
    "green": (48, 160, 66),
    "blue": (40, 92, 214),
    "purple": (132, 58, 182),
    "pink": (246, 134, 190),
    "brown": (122, 78, 44),
    "white": (246, 246, 240),
    "black": (38, 38, 44),
}
PATTERNS = ("plain", "striped", "dotted")
SKINS: tuple[RGB, ...] = ((255, 224, 196), (236, 188, 150), (198, 140, 98), (120, 80, 56))

# Which components a category has; the first always, the others now and then.
SLOTS: dict[str, tuple[str, ...]] = {
    "person": ("hair", "hat", "glasses"),
    "cat": ("ears", "tail"),
    "tower": ("roof", "door"),
    "bottle": ("lid", "label"),
    "car": ("wheels",),
    "robot": ("antenna",),
}
CATEGORIES = tuple(SLOTS)
# Styles of a kind differ in their silhouettes, not in their corners: 64 pixels must tell them apart.
STYLES: dict[str, tuple[str, ...]] = {
    "hair": ("spiky", "curly", "long", "mohawk"),
    "hat": ("tall", "wide", "pointed", "round"),
    "glasses": ("round", "tall", "pointed", "wide"),
    "ears": ("pointed", "round", "long", "floppy"),
    "tail": ("curly", "straight", "bushy", "forked"),
    "roof": ("pointed", "round", "flat", "stepped"),
    "door": ("arched", "wide", "round", "tall"),
    "lid": ("flat", "round", "tall", "pointed"),
    "label": ("tall", "round", "diamond", "wide"),
    "wheels": ("spoked", "solid", "star", "wide"),
    "antenna": ("straight", "curly", "forked", "round"),
}

# The protocol's 20 prompts: where the thing is, and what was done to the picture.
CONTEXTS: dict[str, str] = {
    "beach": "on the beach",
    "jungle": "in the jungle",
    "snow": "in the snow",
    "night": "at night",
    "autumn": "in autumn",
    "clouds": "with clouds in the background",
    "flowers": "with flowers in the background",
    "eiffel": "near the Eiffel Tower",
    "water": "on top of water",
    "fuji": "in front of the Mount Fuji",
}
TREATMENTS: dict[str, str] = {
    "watercolor": "watercolor painting",
    "ukiyoe": "Ukiyo-e painting",
    "pixel": "in Pixel Art style",
    "gogh": "in Von Gogh style",
    "comic": "in a comic book",
    "3d": "from 3D rendering",
    "clay": "made of clay",
    "plastic": "made of plastic",
}
VIEWS: dict[str, str] = {"far": "in a far view", "close": "in a close view"}
PROMPTS: dict[str, str] = {**CONTEXTS, **TREATMENTS, **VIEWS}


@dataclass(frozen=True)
class Surface:
    """Colour (its bin and its RGB), pattern and the pattern's second colour."""

    name: str
    color: RGB
    pattern: str
    accent: RGB


@dataclass(frozen=True)
class Component:
    """An instance of a part. ``size`` multiplies its extent, 0.85 .. 1.2."""

    kind: str
    style: str
    surface: Surface
    size: float


@dataclass(frozen=True)
class Concept:
    """An instance of a thing. ``build`` are three proportions, each 0.85 .. 1.15."""

    category: str
    surface: Surface
    build: tuple[float, float, float]
    skin: RGB
    components: tuple[Component, ...]

    def wearing(self, component: Component) -> "Concept":
        """This concept with ``component`` in place of its own of that kind."""
        others = tuple(c for c in self.components if c.kind != component.kind)
        return replace(self, components=(*others, component))

    def own(self, kind: str) -> Component:
        return next(c for c in self.components if c.kind == kind)


@dataclass(frozen=True)
class Scene:
    """One picture: things (concepts, or components alone), where, how, and how seen.

    ``x``, ``y`` shift the thing and ``zoom`` scales it, in units of the frame; ``focus`` names the
    component that fills the frame, if one does. ``noise`` seeds what is random in the drawing.
    """

    things: tuple[Concept | Component, ...]
    context: str = "plain"
    treatment: str | None = None
    view: str | None = None
    x: float = 0.0
    y: float = 0.0
    zoom: float = 1.0
    mirrored: bool = False
    focus: str | None = None
    wall: RGB = (225, 225, 225)
    floor: RGB = (200, 200, 200)
    noise: int = 0


def random_color(rng: Random, name: str) -> RGB:
    r, g, b = (int(np.clip(v + rng.integers(-16, 17), 0, 255)) for v in PALETTE[name])
    return r, g, b


def random_surface(rng: Random, exclude: Sequence[str] = (), plain: float = 0.6) -> Surface:
    """A surface whose colour's bin is none of ``exclude``; patterned with probability 1 - plain."""
    names = [n for n in PALETTE if n not in exclude]
    name = names[rng.integers(len(names))]
    second = [n for n in PALETTE if n != name]
    pattern = "plain" if rng.random() < plain else PATTERNS[rng.integers(1, 3)]
    accent = random_color(rng, second[rng.integers(len(second))])
    return Surface(name, random_color(rng, name), pattern, accent)


def random_component(rng: Random, kind: str, exclude: Sequence[str] = (), without: Sequence[str] = ()) -> Component:
    """A component of this kind; ``exclude`` bars colours, ``without`` bars styles."""
    styles = [s for s in STYLES[kind] if s not in without]
    style = styles[rng.integers(len(styles))]
    return Component(kind, style, random_surface(rng, exclude, 0.75), float(rng.uniform(0.85, 1.2)))


def random_concept(rng: Random, category: str | None = None, exclude: Sequence[str] = ()) -> Concept:
    """A concept with its components; no two neighbouring surfaces share a colour's bin."""
    category = category or CATEGORIES[rng.integers(len(CATEGORIES))]
    surface = random_surface(rng, exclude)
    first, *rest = SLOTS[category]
    kinds = [first, *(k for k in rest if rng.random() < 0.4)]
    if rng.random() < 0.04:  # a part of something else now and then, for the difficult pairs
        kinds[0] = tuple(STYLES)[rng.integers(len(STYLES))]
    components: list[Component] = []
    for kind in dict.fromkeys(kinds):
        taken = (surface.name, *(c.surface.name for c in components))
        components.append(random_component(rng, kind, (*exclude, *taken)))
    b = rng.uniform(0.85, 1.15, 3)
    skin = SKINS[rng.integers(len(SKINS))]
    return Concept(category, surface, (float(b[0]), float(b[1]), float(b[2])), skin, tuple(components))


def _pale(rng: Random) -> RGB:
    base = rng.uniform(170, 235)
    r, g, b = (int(np.clip(base + v, 150, 250)) for v in rng.uniform(-28, 28, 3))
    return r, g, b


def random_stage(rng: Random, things: tuple[Concept | Component, ...], focus: str | None = None) -> Scene:
    """The things on a plain wall, with a random place, size and direction."""
    wall = _pale(rng)
    floor = _pale(rng) if rng.random() < 0.4 else wall
    shift = 0.05 if focus is None else 0.03
    return Scene(
        things,
        x=float(rng.uniform(-shift, shift)),
        y=float(rng.uniform(-shift, shift)),
        zoom=float(rng.uniform(0.88, 1.06)),
        mirrored=bool(rng.random() < 0.5),
        focus=focus,
        wall=wall,
        floor=floor,
        noise=int(rng.integers(2**31)),
    )


def random_scene(seed: int) -> Scene:
    """A training picture. Same seed, same scene."""
    rng = np.random.default_rng((seed, 0))
    kind = rng.random()
    if kind < 0.03:
        scene = random_stage(rng, ())
    elif kind < 0.07:
        first, second = rng.permutation(len(CATEGORIES))[:2]
        pair = (random_concept(rng, CATEGORIES[first]), random_concept(rng, CATEGORIES[second]))
        scene = random_stage(rng, pair)
    elif kind < 0.15:
        part = random_component(rng, tuple(STYLES)[rng.integers(len(STYLES))])
        scene = random_stage(rng, (part,))
    else:
        concept = random_concept(rng)
        focus = concept.components[0].kind if kind < 0.23 else None
        scene = random_stage(rng, (concept,), focus)
    if not scene.things or rng.random() < 0.55:
        scene = replace(scene, context=tuple(CONTEXTS)[rng.integers(len(CONTEXTS))])
    if rng.random() < 0.2:
        scene = replace(scene, treatment=tuple(TREATMENTS)[rng.integers(len(TREATMENTS))])
    if scene.things and scene.focus is None and len(scene.things) == 1 and rng.random() < 0.12:
        scene = replace(scene, view=tuple(VIEWS)[rng.integers(2)])
    return scene
