"""Units: a pair and a method, with the files of their results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from magictailor.evaluate.metrics.scorer import Scorer
from magictailor.evaluate.records import first_seed, read_unit
from magictailor.evaluate.spec import Source, Spec
from magictailor.generation.images import image_name

Key = tuple[str, int]  # prompt and seed of an image


@dataclass(frozen=True)
class Unit:
    """A pair and a method, in a bench's folder."""

    source: Source
    method: str
    bench: Path

    @property
    def name(self) -> str:
        return f"{self.source.name}/{self.method}"

    @property
    def run(self) -> Path:
        return self.bench / "runs" / self.name

    @property
    def results(self) -> Path:
        return self.bench / "results" / f"{self.name}.parquet"

    @property
    def cost(self) -> Path:
        return self.bench / "costs" / f"{self.name}.json"

    @property
    def lock(self) -> Path:
        return self.bench / "locks" / f"{self.name.replace('/', '--')}.json"

    def image(self, prompt: str, seed: int) -> Path:
        return self.bench / "images" / self.name / image_name(prompt, seed)

    def seeds(self, spec: Spec) -> range:
        """The seeds of each prompt's images."""
        first = first_seed(self.source.name)
        return range(first, first + spec.seeds)

    def keys(self, spec: Spec, words: Sequence[str]) -> set[Key]:
        """The keys of all images of the spec."""
        return {(text, seed) for text in spec.texts(words) for seed in self.seeds(spec)}

    def missing(self, spec: Spec, words: Sequence[str], scorers: Mapping[str, Scorer]) -> dict[str, int]:
        """The number of images that each scorer with this model has not scored; scorers that are done are left out."""
        rows, models = read_unit(self.results)
        keys = self.keys(spec, words)
        counts = {}
        for name, scorer in scorers.items():
            current = models.get(name) == scorer.model
            scored = {(r.prompt, r.seed) for r in rows if r.scorer == name} if current else set()
            counts[name] = len(keys - scored)
        return {name: count for name, count in counts.items() if count}


def make_units(spec: Spec, sources: Sequence[Source], bench: Path) -> list[Unit]:
    """All units, pair after pair, so that methods can be compared on whole pairs before the bench is finished."""
    return [Unit(source, method, bench) for source in sources for method in spec.methods]
