"""Captions of scenes.

Grammar and vocabulary are frozen with the weights. They contain all language of the methods and of the evaluation
protocol: templates, linking words, the 20 prompts, rare tokens, views.
"""

import numpy as np

from magictailor.generation.protocol import CONTEXTS, PROMPTS, TREATMENTS, VIEWS
from magictailor.methods.prompt_words import RARE, TEMPLATES
from magictailor.world.scene import Component, Concept, Random, Scene

LINKS = ("with", "and", "including", "containing")
# Custom Diffusion's prefixes (Kumari 2023) for smaller and larger images.
VIEW_WORDS = {"far": ("a far away", "very small"), "close": ("zoomed in", "close up")}
KEPT = 0.88  # probability that a word or a component is named


def component_phrase(component: Component, rng: Random) -> str:
    """``blue curly hair``, words dropped at random; often just ``clown nose`` for a bare kind."""
    words = [component.color.name] if component.color is not None and rng.random() < KEPT else []
    named = rng.random() < KEPT
    if named:
        words.append(component.word)
    if not (component.spec.bare and named and rng.random() < 0.7):
        words.append(component.kind)
    return " ".join(words)


def _skin(concept: Concept) -> str:
    return f"{concept.color.name} skin"


def concept_phrase(concept: Concept, rng: Random) -> str:
    """``red monster with blue curved horns``, ``person with brown hair and tan skin``: components in any order."""
    skin = concept.spec.skin
    noun = concept.category if skin or rng.random() >= KEPT else f"{concept.color.name} {concept.category}"
    parts = [component_phrase(c, rng) for c in concept.components if rng.random() < KEPT]
    if skin and rng.random() < 0.6:
        parts.append(_skin(concept))
    if not parts:
        return noun
    together = " and ".join(parts[i] for i in rng.permutation(len(parts)))
    if rng.random() < 0.04:
        together += " style"
    link = "with" if rng.random() < 0.75 else LINKS[rng.integers(len(LINKS))]
    if link == "and" and rng.random() < 0.4:
        return f"{together} and {noun}"
    article = "a " if rng.random() < 0.2 else ""
    return f"{noun} {link} {article}{together}"


def _close_up_phrase(concept: Concept, focus: str, rng: Random) -> str:
    """The component alone, or with its owner and no other component."""
    phrase = component_phrase(concept.own(focus), rng)
    if rng.random() < 0.6:
        return phrase
    noun = concept.category if concept.spec.skin or rng.random() < 0.5 else f"{concept.color.name} {concept.category}"
    return f"{noun} with {'a ' if rng.random() < 0.3 else ''}{phrase}"


def _noun_phrase(scene: Scene, rng: Random) -> str:
    phrases = []
    for subject in scene.subjects:
        if isinstance(subject, Component):
            phrases.append(component_phrase(subject, rng))
        elif scene.focus is not None:
            phrases.append(_close_up_phrase(subject, scene.focus, rng))
        else:
            phrases.append(concept_phrase(subject, rng))
    if rng.random() < 0.03:
        phrases[0] = f"{RARE[rng.integers(len(RARE))]} {phrases[0]}"
    return " and a ".join(phrases)


def _prefixed(scene: Scene, noun: str, rng: Random) -> str:
    u = rng.random()
    if scene.view is not None and u < 0.3:
        return f"{VIEW_WORDS[scene.view][rng.integers(2)]} {noun}"
    if scene.focus is not None and u < 0.5:
        return ("a close-up photo of a {}", "a close-up photo of the {}", "a close-up photo of {}")[
            rng.integers(3)
        ].format(noun)
    if scene.focus is not None and u < 0.75:
        return f"{VIEW_WORDS['close'][rng.integers(2)]} {noun}"
    u = rng.random()
    if u < 0.5:
        return f"a photo of a {noun}"
    if u < 0.65:
        return f"a photo of {noun}"
    if u < 0.85:
        return noun
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(noun)


def caption(scene: Scene, rng: Random) -> str:
    """A random caption of this scene. Clauses are dropped at random, and one caption in ten is empty."""
    if rng.random() < 0.1:
        return ""
    clauses = []
    if scene.context in CONTEXTS and rng.random() < 0.95:
        clauses.append(CONTEXTS[scene.context])
    if scene.treatment is not None:
        clauses.append(TREATMENTS[scene.treatment])
    if not scene.subjects:
        scenery = clauses[0].replace("on the beach", "at the beach") if clauses else ""
        return f"a photo {', '.join([scenery, *clauses[1:]])}".strip()
    text = _prefixed(scene, _noun_phrase(scene, rng), rng)
    if scene.view is not None and rng.random() < 0.8:
        clauses.append(VIEWS[scene.view])
    comma = ", " if rng.random() < 0.85 else " "
    return comma.join([text, *clauses])


def full_phrase(subject: Concept | Component) -> str:
    """Everything that captions can name: ``person with curly red hair and tan skin``."""
    if isinstance(subject, Component):
        words = [subject.color.name] if subject.color is not None else []
        return " ".join([*words, subject.word, *([] if subject.spec.bare else [subject.kind])])
    parts = [full_phrase(c) for c in subject.components]
    noun = subject.category if subject.spec.skin else f"{subject.color.name} {subject.category}"
    if subject.spec.skin:
        parts.append(_skin(subject))
    return f"{noun} with {' and '.join(parts)}" if parts else noun


def full_caption(scene: Scene) -> str:
    """The complete caption: ``a photo of a green monster with red curved horns, in the snow``."""
    focus = scene.focus
    subjects = [s.own(focus) if focus is not None and isinstance(s, Concept) else s for s in scene.subjects]
    clauses = [PROMPTS[p] for p in (scene.context, scene.treatment, scene.view) if p in PROMPTS]
    photo = "a close-up photo of a" if focus is not None else "a photo of a"
    return ", ".join([f"{photo} {' and a '.join(map(full_phrase, subjects))}", *clauses])


def caption_rng(seed: int, number: int) -> Random:
    """The random generator for caption ``number`` of the scene with this seed."""
    return np.random.default_rng((seed, 1, number))
