"""The prompts and true images that figures and reports show of a pair."""

from collections.abc import Sequence
from pathlib import Path

from magictailor.evaluate.records import Row
from magictailor.generation.protocol import PROMPTS

_ORDER = {text: name for name, text in PROMPTS.items()}


def prompts_of(rows: Sequence[Row], pair: str) -> list[str]:
    """A pair's prompts: without a clause first, then in the protocol's order, then others."""
    prompts = dict.fromkeys(row.prompt for row in rows if row.pair == pair and row.prompt)
    order = list(_ORDER)

    def position(prompt: str) -> tuple[int, str]:
        _, comma, clause = prompt.partition(", ")
        return (order.index(clause) + 1 if clause in _ORDER else len(order) + 1 if comma else 0, prompt)

    return sorted(prompts, key=position)


def truth_of(bench: Path, pair: str, prompt: str) -> Path | None:
    """The true image of the composite for the prompt; None for a pair that is not of the world."""
    _, _, clause = prompt.partition(", ")
    name = "composite" if clause not in _ORDER else f"composite-{_ORDER[clause]}"
    path = bench / "pairs" / pair / "truth" / f"{name}.png"
    return path if path.exists() else None
