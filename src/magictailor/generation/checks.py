"""What a request for images may ask for; checked before anything large is imported or loaded."""

import re
from collections.abc import Sequence

from magictailor.common.errors import InputError

WORD = re.compile(r"<[^<>\s]+>")
MOST_PROMPT, MOST_IMAGES, MOST_BATCH = 10_000, 100_000, 256  # characters; images of a call; images at a time


def check_prompt(prompt: str, words: Sequence[str], field: str = "prompts") -> None:
    """Raises InputError for a pseudo-word that the run does not know, and for an empty or endless prompt.

    ``field``: the caller's name of the argument, for the error.
    """
    if len(prompt) > MOST_PROMPT:
        raise InputError(
            f"{len(prompt)} characters; at most {MOST_PROMPT} are allowed", "shorten the prompt", field=field
        )
    unknown = [w for w in WORD.findall(prompt) if w not in words]
    if unknown:
        raise InputError(f"{unknown[0]}: not a pseudo-word of this run", f"it knows {', '.join(words)}", field=field)
    if not prompt.strip():
        raise InputError("the prompt is empty", f"write for instance {' with '.join(words)!r}", field=field)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises InputError for a number outside low .. high."""
    if not low <= value <= high:
        raise InputError(f"{value}: out of range", f"choose {low} .. {high}", field=name)


def check_numbers(
    prompts: int,
    number: int,
    seed: int,
    steps: int | None,
    guidance: float | None,
    emphasis: float | None,
    batch: int | None,
) -> None:
    """Raises InputError for a number of `generate` that is out of range."""
    check_range("number", number, 1, max(1, MOST_IMAGES // max(1, prompts)))
    check_range("seed", seed, 0, 2**32 - number)
    for name, value, low, high in (
        ("steps", steps, 1, 1000), ("guidance", guidance, 0, 100), ("emphasis", emphasis, 0, 2), ("batch", batch, 1, MOST_BATCH),
    ):  # fmt: skip
        if value is not None:
            check_range(name, value, low, high)
