"""What is true of each pixel of a scene: which thing it shows, which colour of its surface, which pattern and proportions."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from magictailor.world.canvas import SUPERSAMPLING
from magictailor.world.render import BODY, NEXT, Rendering, render
from magictailor.world.scene import CATEGORIES, CONTEXTS, PATTERNS, STYLES, TREATMENTS, VIEWS, Component, Concept, Scene

NOTHING = "nothing"
THINGS = (NOTHING, *CATEGORIES, *(f"{style} {kind}" for kind, styles in STYLES.items() for style in styles))
SHADES = ("color", "accent", "skin", "other")  # other: outlines, eyes, windows, edges between colours
PLACES = ("plain", *CONTEXTS)
FILTERS = ("none", *TREATMENTS)
DISTANCES = ("none", *VIEWS)
SIZES = ("width", "height", "detail", "size")  # a concept's three proportions, a component's size
UNKNOWN = 255
ALIKE = 14  # of 255 in each channel: of one colour, before noise
MEAN_SIZE, SIZE_SPREAD = 1.0, 0.1
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def instances(scene: Scene) -> dict[int, Concept | Component]:
    """Who owns what in a rendering of the scene, by owner number."""
    found: dict[int, Concept | Component] = {}
    for i, thing in enumerate(scene.things):
        first = BODY + NEXT * i
        found[first] = thing
        if isinstance(thing, Concept):
            found |= {first + 1 + j: part for j, part in enumerate(thing.components)}
    return found


def named(thing: Concept | Component) -> str:
    """Its name in `THINGS`: ``person``, ``spiky hair``."""
    return thing.category if isinstance(thing, Concept) else f"{thing.style} {thing.kind}"


def owner_of_each(rendering: Rendering) -> Bytes:
    """Who covers most of each pixel, [S, S]; 0 nobody."""
    side = len(rendering.owners) // SUPERSAMPLING
    blocks = rendering.owners.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING)
    there = np.unique(rendering.owners)
    shares = np.stack([(blocks == owner).mean((1, 3)) for owner in there])
    return there[shares.argmax(0)].astype(np.uint8)


def shades(scene: Scene, image: Bytes, owners: Bytes) -> Bytes:
    """Which colour of its thing's surface each pixel shows, an index of `SHADES`; `UNKNOWN` where there is no thing."""
    out = np.full(owners.shape, UNKNOWN, np.uint8)
    for owner, thing in instances(scene).items():
        inside = owners == owner
        out[inside] = SHADES.index("other")
        colors = {"color": thing.surface.color}
        if thing.surface.pattern != "plain":
            colors["accent"] = thing.surface.accent
        if isinstance(thing, Concept) and thing.category == "person":
            colors["skin"] = thing.skin
        for name, color in colors.items():
            alike = (np.abs(image.astype(int) - color) <= ALIKE).all(-1)
            out[inside & alike & (out == SHADES.index("other"))] = SHADES.index(name)
    return out


def drawn_with_labels(scene: Scene, size: int) -> Bytes:
    """[S, S, 5]: the picture, the owner of each pixel, and its shade. Shades are those before night and treatments."""
    rendering = render(scene, size)
    owners, by_day = owner_of_each(rendering), rendering.image
    if scene.treatment is not None or scene.context == "night":
        context = "plain" if scene.context == "night" else scene.context
        by_day = render(replace(scene, treatment=None, context=context), size).image
    return np.concatenate([rendering.image, owners[..., None], shades(scene, by_day, owners)[..., None]], -1)


def of_owners(scene: Scene, owners: Bytes) -> tuple[Bytes, Bytes, Floats]:
    """Of each pixel: its thing (an index of `THINGS`), its pattern (of `PATTERNS`), and its sizes, [4, S, S], 1 the average;
    what does not apply is `UNKNOWN` or not a number."""
    things, patterns = np.zeros(256, np.uint8), np.full(256, UNKNOWN, np.uint8)
    sizes = np.full((len(SIZES), 256), np.nan, np.float32)
    for owner, thing in instances(scene).items():
        things[owner] = THINGS.index(named(thing))
        patterns[owner] = PATTERNS.index(thing.surface.pattern)
        if isinstance(thing, Concept):
            sizes[:3, owner] = thing.build
        else:
            sizes[3, owner] = thing.size
    return things[owners], patterns[owners], sizes[:, owners]


def of_picture(scene: Scene) -> tuple[int, int, int]:
    """Place, filter and distance, indices of `PLACES`, `FILTERS`, `DISTANCES`; distance is `UNKNOWN` where no view was asked
    of a single whole thing, whose size would say it."""
    whole = len(scene.things) == 1 and scene.focus is None and isinstance(scene.things[0], Concept)
    distance = DISTANCES.index(scene.view or "none") if whole else UNKNOWN
    return PLACES.index(scene.context), FILTERS.index(scene.treatment or "none"), distance
