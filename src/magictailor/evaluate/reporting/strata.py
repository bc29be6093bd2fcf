"""Which pairs a bench has: of each difficulty, category and kind, how many."""

import re
from collections import Counter
from collections.abc import Sequence

from magictailor.world.pairs import CHALLENGES, WorldPair, world_pair

NAME = re.compile(rf"world-(\d{{1,10}})(?:-({'|'.join(CHALLENGES)}))?")
OTHER = "not of the world"


def pair_of(name: str) -> WorldPair | None:
    """The pair of the world of this name; None if it is not of the world."""
    match = NAME.fullmatch(name)
    return world_pair(int(match[1]), match[2]) if match else None


def strata_lines(names: Sequence[str]) -> list[list[str]]:
    """A row for each difficulty: the number of its pairs, their categories and kinds. The header first."""
    found: dict[str, list[WorldPair]] = {}
    other = 0
    for name in names:
        pair = pair_of(name)
        if pair is None:
            other += 1
        else:
            found.setdefault(pair.challenge, []).append(pair)
    lines = [["difficulty", "pairs", "categories", "kinds"]]
    for challenge in CHALLENGES:
        if pairs := found.get(challenge):
            categories = _counted([pair.concept.category for pair in pairs])
            lines.append([challenge, str(len(pairs)), categories, _counted([pair.kind for pair in pairs])])
    return [*lines, [OTHER, str(other), "", ""]] if other else lines


def _counted(names: Sequence[str]) -> str:
    return ", ".join(name if count == 1 else f"{name} x {count}" for name, count in sorted(Counter(names).items()))
