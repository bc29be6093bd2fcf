"""The paper's studies that change prompts, not training: what a run generates."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from magictailor.common.errors import InputError
from magictailor.generation.checks import check_prompt
from magictailor.generation.protocol import CONTEXTS, PROMPTS, TREATMENTS, VIEWS


@dataclass(frozen=True)
class Study:
    """``prompts``: {concept} and {component} are the pseudo-words (of several components, joined by and)."""

    summary: str
    prompts: tuple[str, ...]


PROTOCOL = tuple(PROMPTS.values())  # table 4
TOGETHER = "{concept} with {component}"
STUDIES: dict[str, Study] = {
    "protocol": Study("the 20 prompts (table 4)", tuple(f"{TOGETHER}, {clause}" for clause in PROTOCOL)),
    "linking-words": Study(
        "other words between concept and component (figure 16)",
        tuple(f"a photo of {{concept}} {link} {{component}}" for link in ("with", "and", "including", "containing")),
    ),
    "complex-prompts": Study(
        "a place and a style or view at once (figure 11; the paper's own prompts are not known here)",
        tuple(
            f"{TOGETHER}, {place}, {style}"
            for place, style in zip(CONTEXTS.values(), (*TREATMENTS.values(), *VIEWS.values()))
        ),
    ),
    "decoupled": Study("each pseudo-word alone (figure 10)", ("a photo of {concept}", "a photo of {component}")),
}


def study_prompts(name: str, words: Sequence[str]) -> list[str]:
    """A study's prompts with a run's pseudo-words, the concept first.

    Raises:
        InputError: an unknown study, or a run of only a concept.
    """
    if name not in STUDIES:
        near = difflib.get_close_matches(name, STUDIES, 1, 0.3) or list(STUDIES)[:1]
        raise InputError(
            f"{name or 'an empty study'}: unknown; the nearest is {near[0]}",
            f"choose one of {', '.join(STUDIES)}",
            field="study",
        )
    if len(words) < 2:
        raise InputError(
            f"{name}: needs a component, and this run has only a concept", "choose a prompt", field="study"
        )
    return filled(STUDIES[name].prompts, words)


def asked_prompts(prompts: Sequence[str], study: str | None, words: Sequence[str]) -> list[str]:
    """The prompts, then those of the study.

    Raises:
        InputError: no prompt, or one that a run with these pseudo-words cannot generate.
    """
    asked = [*prompts, *(study_prompts(study, words) if study is not None else ())]
    if not asked:
        raise InputError("no prompt", 'write one, for instance "<person> with <hair>", or choose a --study')
    for prompt in asked:
        check_prompt(prompt, words)
    return asked


def filled(texts: Sequence[str], words: Sequence[str]) -> list[str]:
    """Texts with {concept} and {component} filled in; a component alone is asked for one by one, if there are several."""
    concept, *components = words
    together = " and ".join(components)
    prompts = [
        text.format(concept=concept, component=component)
        for text in texts
        for component in ([together] if "{concept}" in text or not components else components)
    ]
    return list(dict.fromkeys(prompts))
