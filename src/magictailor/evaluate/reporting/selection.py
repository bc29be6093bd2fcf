"""The prompts and true images that figures and reports show of a pair."""

from pathlib import Path

from magictailor.evaluate.scores import Scores
from magictailor.generation.protocol import PROMPTS

_ORDER = {text: name for name, text in PROMPTS.items()}


def prompts_of(scores: Scores, pair: str) -> list[str]:
    """A pair's prompts: without a clause first, then in the protocol's order, then others."""
    order = list(_ORDER)

    def position(prompt: str) -> tuple[int, str]:
        _, comma, clause = prompt.partition(", ")
        return (order.index(clause) + 1 if clause in _ORDER else len(order) + 1 if comma else 0, prompt)

    return sorted(scores.prompts_with(pair), key=position)


def truth_of(bench: Path, pair: str, prompt: str) -> Path | None:
    """The true image of the composite for the prompt; None for a pair that is not of the world."""
    _, _, clause = prompt.partition(", ")
    name = "composite" if clause not in _ORDER else f"composite-{_ORDER[clause]}"
    path = bench / "pairs" / pair / "truth" / f"{name}.png"
    return path if path.exists() else None
