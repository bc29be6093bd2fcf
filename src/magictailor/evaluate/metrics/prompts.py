"""What a prompt requests: which of the pair's subjects, and in which context, treatment and view."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from magictailor.generation.protocol import CONTEXTS, PROMPTS, TREATMENTS, VIEWS
from magictailor.world.captions import LINKS
from magictailor.world.pairs import WorldPair
from magictailor.world.scene import Component, Concept, Scene

_NAMES = {text: name for name, text in PROMPTS.items()}


@dataclass(frozen=True)
class ParsedPrompt:
    """``concept``, ``component``: whether the prompt names them. ``clauses``: names in `PROMPTS`, any number."""

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
        """The subject of the true image."""
        if self.both:
            return pair.composite
        return pair.concept if self.concept else pair.component

    def scene(self, pair: WorldPair, subject: Concept | Component) -> Scene:
        """The subject as the prompt requests it, in the middle of the image."""
        scene = Scene((subject,), noise=pair.seed % 2**31)
        return replace(scene, context=self.context, treatment=self.treatment, view=self.view)


def parse_prompt(prompt: str, words: Sequence[str]) -> ParsedPrompt | None:
    """What a prompt with these pseudo-words requests: subjects joined by linking words, then clauses after commas.

    None if it contains anything else, or two clauses of one kind: then no true image can be rendered.
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
    return ParsedPrompt(concept in head.split(), named, names)
