"""What a picture is called: captions, and the words that they can use.

The vocabulary and grammar are frozen with the weights, so they hold all language that the methods and the
evaluation protocol use: templates, linking words, the 20 prompts, rare tokens, views.
"""

import numpy as np

from magictailor.naming import RARE, TEMPLATES
from magictailor.world.scene import (
    CATEGORIES,
    CONTEXTS,
    PALETTE,
    PATTERNS,
    PROMPTS,
    STYLES,
    TREATMENTS,
    VIEWS,
    Component,
    Concept,
    Random,
    Scene,
    Surface,
)

LINKS = ("with", "and", "including", "containing")
# Custom Diffusion's prefixes (Kumari 2023) for a picture made smaller or larger.
VIEW_WORDS = {"far": ("a far away", "very small"), "close": ("zoomed in", "close up")}


def _surface_words(surface: Surface, rng: Random) -> list[str]:
    words = [surface.name] if rng.random() < 0.88 else []
    if surface.pattern != "plain" and rng.random() < 0.8:
        words.append(surface.pattern)
    return words


def component_phrase(component: Component, rng: Random) -> str:
    """``blue striped long ears``, words dropped at random."""
    words = _surface_words(component.surface, rng)
    if rng.random() < 0.88:
        words.append(component.style)
    return " ".join([*words, component.kind])


def concept_phrase(concept: Concept, rng: Random) -> str:
    """``red striped cat with blue long ears``; unnamed components stay free."""
    noun = " ".join([*_surface_words(concept.surface, rng), concept.category])
    named = [c for c in concept.components if rng.random() < 0.88]
    if not named:
        return noun
    parts = " and ".join(component_phrase(c, rng) for c in named)
    if rng.random() < 0.04:
        parts += " style"
    link = "with" if rng.random() < 0.75 else LINKS[rng.integers(len(LINKS))]
    if link == "and" and rng.random() < 0.4:
        return f"{parts} and {noun}"
    article = "a " if rng.random() < 0.2 else ""
    return f"{noun} {link} {article}{parts}"


def _noun_phrase(scene: Scene, rng: Random) -> str:
    phrases = []
    for thing in scene.things:
        if isinstance(thing, Component):
            phrases.append(component_phrase(thing, rng))
        elif scene.focus is not None:
            phrases.append(component_phrase(thing.own(scene.focus), rng))
        else:
            phrases.append(concept_phrase(thing, rng))
    if rng.random() < 0.03:
        phrases[0] = f"{RARE[rng.integers(len(RARE))]} {phrases[0]}"
    return " and a ".join(phrases)


def _prefixed(scene: Scene, noun: str, rng: Random) -> str:
    u = rng.random()
    if scene.view is not None and u < 0.3:
        return f"{VIEW_WORDS[scene.view][rng.integers(2)]} {noun}"
    if scene.focus is not None and u < 0.25:
        return ("a close-up photo of a {}", "a close-up photo of the {}")[rng.integers(2)].format(noun)
    if u < 0.5:
        return f"a photo of a {noun}"
    if u < 0.65:
        return f"a photo of {noun}"
    if u < 0.85:
        return noun
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(noun)


def caption(scene: Scene, rng: Random) -> str:
    """A caption of this scene; clauses are dropped at random, and one in ten is empty."""
    if rng.random() < 0.1:
        return ""
    clauses = []
    if scene.context in CONTEXTS and rng.random() < 0.95:
        clauses.append(CONTEXTS[scene.context])
    if scene.treatment is not None:
        clauses.append(TREATMENTS[scene.treatment])
    if not scene.things:
        place = clauses[0].replace("on the beach", "at the beach") if clauses else ""
        return f"a photo {', '.join([place, *clauses[1:]])}".strip()
    text = _prefixed(scene, _noun_phrase(scene, rng), rng)
    if scene.view is not None and rng.random() < 0.8:
        clauses.append(VIEWS[scene.view])
    comma = ", " if rng.random() < 0.85 else " "
    return comma.join([text, *clauses])


def full_caption(scene: Scene) -> str:
    """The complete caption, nothing dropped: ``a photo of a green tower with red pointed roof, in the snow``."""

    def words(surface: Surface) -> list[str]:
        return [surface.name] if surface.pattern == "plain" else [surface.name, surface.pattern]

    phrases = []
    for thing in scene.things:
        parts = [thing] if isinstance(thing, Component) else list(thing.components)
        named = [" ".join([*words(c.surface), c.style, c.kind]) for c in parts]
        if isinstance(thing, Concept):
            noun = " ".join([*words(thing.surface), thing.category])
            phrases.append(f"{noun} with {' and '.join(named)}" if named else noun)
        else:
            phrases.extend(named)
    clauses = [PROMPTS[p] for p in (scene.context, scene.treatment, scene.view) if p in PROMPTS]
    return ", ".join([f"a photo of a {' and a '.join(phrases)}", *clauses])


def vocabulary() -> list[str]:
    """Every word that a caption can hold, sorted."""
    phrases = [*TEMPLATES, *LINKS, *RARE, *PALETTE, *PATTERNS, *CATEGORIES, *STYLES, *PROMPTS.values()]
    phrases += [s for styles in STYLES.values() for s in styles]
    phrases += [w for words in VIEW_WORDS.values() for w in words]
    phrases += ["at the beach", "style", "square", "an", "painting", "drawing", "object", "mouth", "window", "v", "*"]
    text = " ".join(phrases).lower().replace("{}", " ")
    for mark in ",-.":
        text = text.replace(mark, f" {mark} ")
    words = set(text.split()) | set(",.-")
    # CLIP splits before it merges: digits stand alone.
    return sorted(words - {"3d"} | {"3", "d"})


def caption_rng(seed: int, draw: int) -> Random:
    """The generator of the ``draw``-th caption of the scene with this seed."""
    return np.random.default_rng((seed, 1, draw))
