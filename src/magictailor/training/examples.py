"""What a step looks at: which pictures, under which prompts. Drawn from (pair, seed, step) alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from magictailor.common.randomness import generator, pair_seed, uniform
from magictailor.data.batches import Picture
from magictailor.data.collage import Scaling
from magictailor.recipe import Phase, Recipe
from magictailor.recipe.naming import Naming


@dataclass(frozen=True)
class Example:
    """A row of a step. ``number``: whose random numbers it draws; ``shown``: its pictures, several in a collage;
    ``prior``: the file of a picture that the base drew, instead."""

    number: int
    shown: tuple[Picture, ...]
    prompt: str
    prior: Path | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """Whose attention is read."""
        return tuple(picture.word for picture in self.shown)

    @property
    def samples(self) -> tuple[int, ...]:
        return tuple(picture.sample for picture in self.shown)


class Examples:
    """The steps of one pair's run. ``digests``: of the pair's images, see `pair_seed`."""

    def __init__(
        self, pictures: Sequence[Picture], recipe: Recipe, naming: Naming, digests: Sequence[str] = ()
    ) -> None:
        self.pictures, self.recipe, self.naming = pictures, recipe, naming
        self.seed = pair_seed(recipe.seed, digests)
        self.whole = recipe.batch is None and not recipe.union
        self.images = recipe.batch or len(pictures)  # of the pair, in a step
        self._priors: Mapping[str, Sequence[Path]] = {}

    @property
    def count(self) -> int:
        """Rows of a step, prior pictures included."""
        return self.images * (2 if self.recipe.prior else 1)

    def with_priors(self, priors: Mapping[str, Sequence[Path]]) -> None:
        """``priors``: pictures by prompt, see `prior_prompt`."""
        self._priors = priors

    def prior_prompt(self, word: str) -> str:
        assert self.recipe.prior is not None
        return self.recipe.prior.prompt.format(self.naming.words[word])

    def scaling(self, step: int, number: int) -> Scaling | None:
        """How large a row's picture is, where that changes."""
        if not self.recipe.augment.scale:
            return None
        return Scaling.drawn(uniform(5, self.seed, step, number, "scale"))

    def of(self, step: int) -> list[Example]:
        """The rows of a step: the pair's first, then as many prior pictures of the same labels."""
        rows = [self._row(step, number, shown) for number, shown in enumerate(self._shown(step))]
        if self.recipe.prior is None:
            return rows
        return rows + [self._prior(step, len(rows) + i, row.words[0]) for i, row in enumerate(rows)]

    def _shown(self, step: int) -> list[tuple[Picture, ...]]:
        if self.whole:
            return [(picture,) for picture in self.pictures]
        random = generator(self.seed, step, 0, "choice")
        return [self._subset(random) if self.recipe.union else (self._any(random),) for _ in range(self.images)]

    def _any(self, random: torch.Generator, sample: int | None = None) -> Picture:
        """One of all pictures, or of a sample's."""
        choice = [p for p in self.pictures if sample in (None, p.sample)]
        return choice[int(torch.randint(len(choice), (1,), generator=random))]

    def _subset(self, random: torch.Generator) -> tuple[Picture, ...]:
        """Break-A-Scene's union sampling: k ~ U{1 .. N} of the samples, a picture of each."""
        samples = list(dict.fromkeys(p.sample for p in self.pictures))
        size = 1 + int(torch.randint(len(samples), (1,), generator=random))
        chosen = torch.randperm(len(samples), generator=random)[:size].tolist()
        return tuple(self._any(random, samples[i]) for i in chosen)

    def _row(self, step: int, number: int, shown: tuple[Picture, ...]) -> Example:
        if len(shown) > 1:
            return Example(number, shown, self.naming.together([p.word for p in shown]))
        prompts = self.naming.prompts(shown[0].word)
        prompt = prompts[0]
        if len(prompts) > 1:
            prompt = prompts[int(uniform(1, self.seed, step, number, "template") * len(prompts))]
        scaling = self.scaling(step, number)
        return Example(number, shown, (scaling.prefix if scaling else "") + prompt)

    def _prior(self, step: int, number: int, word: str) -> Example:
        prompt = self.prior_prompt(word)
        choice = self._priors[prompt]
        picture = choice[int(uniform(1, self.seed, step, number, "prior") * len(choice))]
        return Example(number, (), prompt, picture)

    def region_prompts(self, rows: Sequence[Example], phase: Phase) -> list[str]:
        """What each row is told in CLiC's second look; nothing new for prior pictures."""
        if phase.region is None:
            return []
        return [r.prompt if r.prior else phase.region.prompt.format(r.words[0]) for r in rows]

    def all_prompts(self) -> list[str]:
        """Every prompt with a pseudo-word that any step may have."""
        words = list(self.naming.words)
        texts = [text for word in words for text in self.naming.prompts(word)]
        if self.recipe.union:
            texts.append(self.naming.together(words))
        texts += [p.region.prompt.format(w) for p in self.recipe.phases if p.region for w in words]
        prefixes = ("", "a far away ") if self.recipe.augment.scale else ("",)
        return list(dict.fromkeys(prefix + text for prefix in prefixes for text in texts))
