"""All scores of a bench as columns of numbers: millions of rows are read and averaged in seconds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magictailor.evaluate.records import COLUMNS, Row, parquet, read_table, result_files, schema

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]


def _encoded(values: Any) -> tuple[Codes, tuple[Any, ...]]:
    """A column as codes into its sorted distinct values."""
    encoded = values.combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if hasattr(encoded, "combine_chunks") else encoded
    names = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    codes = np.asarray(encoded.indices, np.int64)
    return (rank[codes] if len(names) else codes), tuple(names[i] for i in order)


@dataclass(frozen=True)
class Values:
    """A metric's values of one method. ``image``: identifies pair, prompt, seed and training seed in all methods.
    ``pair``: a code, see `Scores.pairs`."""

    image: Codes
    pair: Codes
    value: Floats

    def where(self, kept: NDArray[np.bool_]) -> "Values":
        """Some of the values."""
        return Values(self.image[kept], self.pair[kept], self.value[kept])


class Scores:
    """Sorted names of what was scored, and the values by method and metric."""

    def __init__(self, table: Any) -> None:
        columns = {name: _encoded(table[name]) for name in COLUMNS if name != "value"}
        self._codes = {name: codes for name, (codes, _) in columns.items()}
        names = {name: names for name, (_, names) in columns.items()}
        self.pairs: tuple[str, ...] = names["pair"]
        self.methods: tuple[str, ...] = names["method"]
        self.prompts: tuple[str, ...] = names["prompt"]
        self.seeds: tuple[int, ...] = names["seed"]
        self.scorers: tuple[str, ...] = names["scorer"]
        self.metrics: tuple[str, ...] = names["metric"]
        self.training_seeds: tuple[int, ...] = names["training_seed"]
        self._value = np.asarray(table["value"].combine_chunks(), np.float64)
        image = self._codes["pair"]
        for name, count in (("prompt", self.prompts), ("seed", self.seeds), ("training_seed", self.training_seeds)):
            image = image * max(1, len(count)) + self._codes[name]
        self._image = image

    def __len__(self) -> int:
        return len(self._value)

    @cached_property
    def _groups(self) -> Mapping[tuple[str, str], Codes]:
        """Row numbers by method and metric."""
        key = self._codes["method"] * max(1, len(self.metrics)) + self._codes["metric"]
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order], prepend=-1, append=-1))
        found = {}
        for start, end in pairwise(edges.tolist()):
            method, metric = divmod(int(key[order[start]]), max(1, len(self.metrics)))
            found[self.methods[method], self.metrics[metric]] = order[start:end]
        return found

    def values(self, method: str, metric: str) -> Values:
        """The metric's values of the method; images without a value are left out."""
        rows = self._groups.get((method, metric), np.empty(0, np.int64))
        rows = rows[~np.isnan(self._value[rows])]
        return Values(self._image[rows], self._codes["pair"][rows], self._value[rows])

    @cached_property
    def _scorer_of(self) -> Mapping[str, tuple[str, ...]]:
        """The scorers of each metric."""
        both = np.unique(np.stack([self._codes["metric"], self._codes["scorer"]]), axis=1).T
        found: dict[str, tuple[str, ...]] = {}
        for metric, scorer in both.tolist():
            name = self.metrics[metric]
            found[name] = (*found.get(name, ()), self.scorers[scorer])
        return found

    def scored(self, method: str, metric: str) -> Codes:
        """The images of the method that the metric's scorer has scored, with a value or without; sorted."""
        scorers = [self.scorers.index(name) for name in self._scorer_of.get(metric, ())]
        if method not in self.methods:
            return np.empty(0, np.int64)
        own = self._codes["method"] == self.methods.index(method)
        return np.unique(self._image[own & np.isin(self._codes["scorer"], scorers)])

    @property
    def _seeds_of_a_prompt(self) -> int:
        return max(1, len(self.seeds)) * max(1, len(self.training_seeds))

    def prompt_codes(self, method: str, metric: str) -> Codes:
        """Pair and prompt, as one code, of the method's images that have a value; sorted."""
        return np.unique(self.values(method, metric).image // self._seeds_of_a_prompt)

    def pair_means(
        self, method: str, metric: str, among: Codes | None = None, of_prompts: Codes | None = None
    ) -> dict[str, float]:
        """The mean of the metric on each pair, over the images that have a value.

        Args:
            among: over these images only.
            of_prompts: over the images of these prompts only, see `prompt_codes`.
        """
        found = self.values(method, metric)
        if among is not None:
            found = found.where(np.isin(found.image, among))
        if of_prompts is not None:
            found = found.where(np.isin(found.image // self._seeds_of_a_prompt, of_prompts))
        sums = np.bincount(found.pair, found.value, len(self.pairs))
        counts = np.bincount(found.pair, minlength=len(self.pairs))
        return {self.pairs[i]: float(sums[i] / counts[i]) for i in np.flatnonzero(counts)}

    def pairs_of(self, images: Codes) -> list[str]:
        """The pairs of these images."""
        size = max(1, len(self.prompts)) * self._seeds_of_a_prompt
        return [self.pairs[i] for i in np.unique(images // size)]

    def pairs_with(self, method: str) -> list[str]:
        """The pairs that the method was scored on."""
        if method not in self.methods:
            return []
        return [
            self.pairs[i] for i in np.unique(self._codes["pair"][self._codes["method"] == self.methods.index(method)])
        ]

    def prompts_with(self, pair: str) -> list[str]:
        """The prompts of the pair's images."""
        if pair not in self.pairs:
            return []
        own = self._codes["pair"] == self.pairs.index(pair)
        return [text for i in np.unique(self._codes["prompt"][own]) if (text := self.prompts[i])]

    @property
    def image_count(self) -> int:
        """Images with a score, of all methods."""
        single = self._codes["prompt"] != (self.prompts.index("") if "" in self.prompts else -1)
        methods = self._codes["method"][single]
        return len(np.unique(self._image[single] * max(1, len(self.methods)) + methods))

    def keys(self, image: Codes) -> list[tuple[str, str, int, int]]:
        """Pair, prompt, seed and training seed of images."""
        found = []
        for code in image.tolist():
            code, training = divmod(code, max(1, len(self.training_seeds)))
            code, seed = divmod(code, max(1, len(self.seeds)))
            pair, prompt = divmod(code, max(1, len(self.prompts)))
            found.append((self.pairs[pair], self.prompts[prompt], self.seeds[seed], self.training_seeds[training]))
        return found


def scores_of(rows: Iterable[Row]) -> Scores:
    """Of rows in memory."""
    parquet()
    import pyarrow

    listed = list(rows)
    columns = {name: [getattr(row, name) for row in listed] for name in COLUMNS}
    return Scores(pyarrow.table(columns, schema=schema()))


def read_scores(bench: Path) -> Scores:
    """All scores in a bench's folder. Raises InputError as `read_table`."""
    tables = [read_table(path) for path in result_files(bench)]
    if not tables:
        return scores_of([])
    parquet()
    import pyarrow

    return Scores(pyarrow.concat_tables(tables))


def common(images: Sequence[Codes]) -> Codes:
    """The images that are in all of these; sorted."""
    found = images[0]
    for other in images[1:]:
        found = np.intersect1d(found, other)
    return np.unique(found)
