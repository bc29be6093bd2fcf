"""What a prompt asks for: which of the pair's subjects, and in which context, treatment and view."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from magictailor.generation.protocol import CONTEXTS, PROMPTS, TREATMENTS, VIEWS
from magictailor.world.captions import LINKS
from magictailor.world.pairs import WorldPair
from magictailor.world.scene import Component, Concept, Scene

_NAMES = {text: name for name, text in PROMPTS.items()}


@dataclass(frozen=True)
class Asked:
    """``concept``, ``component``: whether the prompt names them. ``clauses``: of `PROMPTS`, in any number."""

    concept: bool
    component: bool
    clauses: tuple[str, ...]

    @property
    def context(self) -> str:
        return next((c for c in self.clauses if c in CONTEXTS), "plain")

    @property
    def treatment(self) -> str | None:
        return next((c for c in self.clauses if c in TREATMENTS), None)

    @property
    def view(self) -> str | None:
        return next((c for c in self.clauses if c in VIEWS), None)

    @property
    def both(self) -> bool:
        return self.concept and self.component

    def subject(self, pair: WorldPair) -> Concept | Component:
        """What a true picture shows."""
        if self.both:
            return pair.composite
        return pair.concept if self.concept else pair.component

    def scene(self, pair: WorldPair, subject: Concept | Component) -> Scene:
        """This subject as the prompt asks for it, in the middle of the picture."""
        scene = Scene((subject,), noise=pair.seed % 2**31)
        return replace(scene, context=self.context, treatment=self.treatment, view=self.view)


def asked(prompt: str, words: Sequence[str]) -> Asked | None:
    """What a prompt with these pseudo-words asks for: subjects joined by linking words, then clauses after commas.

    None where it says anything else, or two clauses of one kind: then the truth of it cannot be drawn.
    """
    head, *clauses = prompt.split(", ")
    head = head.removeprefix("a photo of ")
    if any(clause not in _NAMES for clause in clauses) or not set(head.split()) <= {*words, *LINKS, "a", "the"}:
        return None
    names = tuple(_NAMES[clause] for clause in clauses)
    if any(sum(name in kind for name in names) > 1 for kind in (CONTEXTS, TREATMENTS, VIEWS)):
        return None
    concept, *components = words
    named = bool(components) and all(word in head.split() for word in components)
    return Asked(concept in head.split(), named, names)
