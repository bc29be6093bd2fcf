"""The pairs of a bench, by name; a pair of the world is drawn when it is first needed."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.common.records import shortened
from magictailor.data import Pair, read_pair
from magictailor.evaluate.spec import Spec
from magictailor.world.pairs import CHALLENGES, WorldPair, seed_range, world_pair, write_pair

WORLD = re.compile(rf"world:(\d{{1,12}})(?:\+(\d{{1,12}}))?(?:-({'|'.join(CHALLENGES)}))?")
MOST_PAIRS = 2000  # of one entry


@dataclass(frozen=True)
class Source:
    """A pair of a bench: a folder, or the seed of a pair of the world, which is written to a folder on first use."""

    name: str
    folder: Path | None = None
    seed: int | None = None
    challenge: str | None = None

    @cached_property
    def world(self) -> WorldPair | None:
        """The pair's ground truth, if it is of the world."""
        return None if self.seed is None else world_pair(self.seed, self.challenge)

    def read(self, world_folder: Path) -> Pair:
        """Read the pair; one of the world is in ``world_folder``. Two processes may write it at once."""
        if self.folder is not None:
            return read_pair(self.folder)
        folder = world_folder / self.name
        if not folder.exists():
            assert self.world is not None
            try:
                write_pair(self.world, folder)
            except (InputError, OSError):
                if not folder.exists():
                    raise
        return read_pair(folder)


def _name_of(path: Path) -> str:
    """The folder's name; for a TOML file its stem, or its folder's name if it is called pair.toml."""
    if path.suffix != ".toml":
        return path.name
    return path.parent.name if path.name == "pair.toml" else path.stem


def _of_the_world(text: str, match: re.Match[str]) -> list[Source]:
    first, count, challenge = int(match[1]), int(match[2] or 1), match[3]
    if not 1 <= count <= MOST_PAIRS:
        problem = f"pairs: {text}: {count} pairs" if count else f"pairs: {text}: no pair"
        raise InputError(problem, f"write +1 .. +{MOST_PAIRS}, or leave it out")
    for seed in (first, first + count - 1):
        seed_range(seed)
    suffix = f"-{challenge}" if challenge else ""
    return [
        Source(f"world-{seed}{suffix}", seed=seed, challenge=challenge or None) for seed in range(first, first + count)
    ]


def _no_pairs_of_the_world(text: str) -> InputError:
    fix = (
        "write world:SEED, world:SEED+NUMBER or world:SEED+NUMBER-CHALLENGE "
        f"with SEED below {2**32} and CHALLENGE one of {', '.join(CHALLENGES)}"
    )
    return InputError(f"pairs: {shortened(text)}: not pairs of the world", fix)


def _of_a_folder(text: str, base: Path) -> Source:
    try:
        folder = (base / Path(text).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # ~nobody, NUL, a loop of links
        raise InputError(f"pairs: {text!r}: not a path ({error})", "write a folder's path") from error
    return Source(_name_of(folder), folder)


def sources(spec: Spec, base: Path) -> list[Source]:
    """The spec's pairs; folders are relative to ``base``.

    Raises:
        InputError: equal names, a misspelt range of the world, a seed or a number of pairs out of range,
            or a text that is not a path.
    """
    found: list[Source] = []
    for text in spec.pairs:
        match = WORLD.fullmatch(text)
        if match is None and text.startswith("world:"):
            raise _no_pairs_of_the_world(text)
        found += _of_the_world(text, match) if match else [_of_a_folder(text, base)]
    name, times = Counter(source.name for source in found).most_common(1)[0]
    if times > 1:
        raise InputError(f"pairs: two are called {name}", "rename one")
    return found
