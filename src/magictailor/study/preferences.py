"""A model of how people choose, to plan a study and to test its statistics. It makes no answers that count."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DRAWS = 100_000  # for the shares of a population


@dataclass(frozen=True)
class Preferences:
    """Raters choose the picture with the highest utility: the method's, what the rater likes, how the group turned out, chance.

    shares: of choices among all raters and groups there could be, by method; sum 1.
    rater_spread, group_spread: standard deviations of a method's utility between raters, and between groups. The chance
        part has 1.28 (Gumbel), so that without spread the shares are those of a multinomial logit.
    """

    shares: tuple[float, ...]
    rater_spread: float
    group_spread: float

    def utilities(self) -> Floats:
        """The methods' utilities that give the shares, by repeated correction."""
        target = np.asarray(self.shares)
        rng = np.random.default_rng(0)
        spread = np.hypot(self.rater_spread, self.group_spread)
        noise = rng.normal(0, spread, (DRAWS, len(target))) + rng.gumbel(size=(DRAWS, len(target)))
        found = np.log(target)
        for _ in range(60):
            shares = np.bincount((found + noise).argmax(1), minlength=len(target)) / DRAWS
            found = found + np.log(target / np.maximum(shares, 1 / DRAWS))
        return found

    def choose(self, raters: int, groups: int, rng: np.random.Generator, utilities: Floats | None = None) -> Ints:
        """The number of the chosen method, [raters, groups]."""
        base = self.utilities() if utilities is None else utilities
        count = len(self.shares)
        by_rater = rng.normal(0, self.rater_spread, (raters, 1, count))
        by_group = rng.normal(0, self.group_spread, (1, groups, count))
        chosen: Ints = (base + by_rater + by_group + rng.gumbel(size=(raters, groups, count))).argmax(2)
        return chosen
