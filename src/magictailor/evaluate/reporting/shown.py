"""Which of a bench's pictures are shown: each pair's first prompt as the protocol orders them, and the truth of it."""

from collections.abc import Sequence
from pathlib import Path

from magictailor.evaluate.records import Row
from magictailor.generation.protocol import PROMPTS

_ORDER = {text: name for name, text in PROMPTS.items()}


def prompts_of(rows: Sequence[Row], pair: str) -> list[str]:
    """A pair's prompts: plain ones first, then in the protocol's order."""
    prompts = dict.fromkeys(row.prompt for row in rows if row.pair == pair and row.prompt)
    order = list(_ORDER)

    def position(prompt: str) -> tuple[int, str]:
        _, comma, clause = prompt.partition(", ")
        return (order.index(clause) + 1 if clause in _ORDER else len(order) + 1 if comma else 0, prompt)

    return sorted(prompts, key=position)


def truth_of(home: Path, pair: str, prompt: str) -> Path | None:
    """The true composite as the prompt asks, if the pair is of the world."""
    _, _, clause = prompt.partition(", ")
    name = "composite" if clause not in _ORDER else f"composite-{_ORDER[clause]}"
    path = home / "pairs" / pair / "truth" / f"{name}.png"
    return path if path.exists() else None
