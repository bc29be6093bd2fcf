"""What a finished bench offers a study: for each pair and prompt, one picture of each method, photos, and the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.data import Pair, read_pair
from magictailor.evaluate.anchor_names import ANCHORS
from magictailor.evaluate.records import all_rows, first_seed
from magictailor.evaluate.reporting.selection import truth_of
from magictailor.evaluate.sources import sources
from magictailor.evaluate.spec import read_spec
from magictailor.generation.images import image_name


@dataclass(frozen=True)
class Candidate:
    """A group that a study can have.

    prompt: with pseudo-words, as the bench has it.
    pictures: a picture's path by method.
    truth: the true image of the prompt, on pairs of the world.
    """

    pair: Pair
    prompt: str
    pictures: Mapping[str, Path]
    truth: Path | None

    @property
    def shown_prompt(self) -> str:
        """The prompt with labels instead of pseudo-words, which raters would not understand."""
        text = self.prompt
        for sample in self.pair.samples:
            text = text.replace(sample.word, sample.label)
        return text


def candidates(bench: Path, methods: Sequence[str] = (), spec: Path | None = None) -> list[Candidate]:
    """Every pair and prompt of which all methods have a picture, sorted.

    Args:
        methods: only these; otherwise, all of the bench.
        spec: the bench's TOML file, for the photos of pairs that are not of the world.

    Raises:
        InputError: no such bench or method, fewer than two methods, or no group that is complete.
    """
    rows = [row for row in all_rows(bench) if row.prompt and not row.training_seed] if bench.is_dir() else []
    rows = [row for row in rows if row.method not in ANCHORS]
    if not rows:
        raise InputError(
            f"{bench}: not a bench, or nothing in it is finished", "run one with `magictailor bench run`", field="bench"
        )
    present = list(dict.fromkeys(row.method for row in rows))
    if missing := [method for method in methods if method not in present]:
        raise InputError(f"{missing[0]}: not in this bench", f"choose from {', '.join(present)}", field="methods")
    chosen = list(methods) or present
    if len(set(chosen)) < 2:
        raise InputError(f"{', '.join(chosen)}: one method", "a study compares two or more", field="methods")
    made: dict[tuple[str, str], dict[str, Path]] = {}
    for row in rows:
        if row.method in chosen:
            path = bench / "images" / row.pair / row.method / image_name(row.prompt, first_seed(row.pair))
            if path.is_file():
                made.setdefault((row.pair, row.prompt), {})[row.method] = path
    complete = {key: pictures for key, pictures in made.items() if len(pictures) == len(set(chosen))}
    if not complete:
        problem = f"{bench}: no pair has a picture of {', '.join(chosen)} for one prompt"
        raise InputError(problem, "finish the bench, or choose fewer methods", field="bench")
    pairs = _pairs(bench, {pair for pair, _ in complete}, spec)
    return [
        Candidate(pairs[pair], prompt, {method: pictures[method] for method in chosen}, truth_of(bench, pair, prompt))
        for (pair, prompt), pictures in sorted(complete.items())
    ]


def _pairs(bench: Path, names: set[str], spec: Path | None) -> dict[str, Pair]:
    """The pairs by name: of the world in the bench's folder, others where the spec says."""
    folders = {name: bench / "pairs" / name for name in names if (bench / "pairs" / name).is_dir()}
    if spec is not None:
        folders |= {s.name: s.folder for s in sources(read_spec(spec), spec.resolve().parent) if s.folder is not None}
    if missing := sorted(names - set(folders)):
        raise InputError(f"{missing[0]}: its photos are not in the bench", "give the bench's TOML file", field="spec")
    return {name: read_pair(folders[name]) for name in names}
