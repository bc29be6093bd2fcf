"""Do the bench's statistics say what they claim to? Simulated benches with known effects.

    OMP_NUM_THREADS=1 python benchmarks/bench_statistics.py --benches 2000 --mixed 200

A difference of two methods is an effect, plus a pair's part, a prompt's, one of both, and an image's noise, of sizes as on the
embedded base. Printed are: how often intervals hold the true effect; how often a table without effects shows one; how often an
effect is shown, against what `detectable` promises; and how far our numbers are from other implementations.
"""

import argparse
import math

import numpy as np
from scipy.stats import permutation_test
from statsmodels.stats.multitest import multipletests

from magictailor.evaluate.reporting.mixed import fit
from magictailor.evaluate.reporting.statistics import (
    bootstrap,
    detectable_effect,
    holm,
    pairs_needed,
    sign_flip_interval,
    sign_flip_test,
)

PAIR, PROMPT, BOTH, IMAGE = 0.03, 0.02, 0.04, 0.10  # standard deviations of an identity difference
PROMPTS, SEEDS = 8, 2
Floats = np.ndarray


def images(rng: np.random.Generator, pairs: int, effect: float, skewed: bool = False, prompt: float = PROMPT) -> Floats:
    """Differences of images, [pairs, PROMPTS, SEEDS]."""
    part = rng.exponential(PAIR, pairs) - PAIR if skewed else rng.normal(0, PAIR, pairs)
    found = effect + part[:, None, None] + rng.normal(0, prompt, (1, PROMPTS, 1))
    return found + rng.normal(0, BOTH, (pairs, PROMPTS, 1)) + rng.normal(0, IMAGE, (pairs, PROMPTS, SEEDS))


def codes(shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    pair, prompt, _ = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return pair.ravel(), prompt.ravel()


def anova(data: Floats) -> tuple[float, float, dict[str, float]]:
    """The mean of balanced crossed data, its standard error, and the variances, by mean squares."""
    pairs, prompts, seeds = data.shape
    cell = data.mean(2)
    of_pairs = prompts * cell.mean(1).var(ddof=1)
    of_prompts = pairs * cell.mean(0).var(ddof=1)
    left = cell - cell.mean(1, keepdims=True) - cell.mean(0, keepdims=True) + cell.mean()
    rest, image = float(np.square(left).sum() / (pairs - 1) / (prompts - 1)), float(data.var(2, ddof=1).mean())
    variance = {"pair": (of_pairs - rest) / prompts, "prompt": (of_prompts - rest) / pairs, "pair x prompt": rest - image / seeds, "image": image}  # fmt: skip
    return float(data.mean()), math.sqrt((of_pairs + of_prompts - rest) / (pairs * prompts)), variance


def coverage(benches: int) -> None:
    """Tests over pairs speak of the bench's own prompts, so prompts add nothing here."""
    print("95 % intervals over pairs hold the true effect, of all benches:")
    for pairs in (6, 8, 12, 24):
        for skewed in (False, True):
            rng, held = np.random.default_rng(pairs), np.zeros(2)
            for _ in range(benches):
                own = images(rng, pairs, 0.02, skewed, prompt=0).mean((1, 2)).tolist()
                found = sign_flip_interval(own), bootstrap(own)
                held += [interval.low <= 0.02 <= interval.high for interval in found]
            shape = "skewed" if skewed else "normal"
            print(
                f"  {pairs:2} pairs, {shape}: sign flips {held[0] / benches:.3f}, bootstrap {held[1] / benches:.3f}",
                flush=True,
            )


def family(benches: int) -> None:
    """20 contrasts against one baseline, all without an effect; then with one that has."""
    rng, any_raw, any_corrected, found = np.random.default_rng(1), 0, 0, 0
    for _ in range(benches):
        baseline = rng.normal(0, PAIR, 24)
        differences = rng.normal(0, PAIR, (20, 24)) - baseline
        raw = [sign_flip_test(row.tolist()) for row in differences]
        any_raw += min(raw) < 0.05
        any_corrected += min(holm(raw)) < 0.05
        differences[0] += 0.06
        found += holm([sign_flip_test(differences[0].tolist()), *raw[1:]])[0] < 0.05
    print(
        f"a table of 20 rows without effects shows one in {any_raw / benches:.3f} of benches, corrected in {any_corrected / benches:.3f}"
    )
    print(f"  an effect of twice a pair's scatter in it is shown in {found / benches:.3f}", flush=True)


def power(benches: int) -> None:
    print("a true effect of the size `detectable` is shown, which should be 0.8:")
    for pairs in (8, 12, 24):
        rng = np.random.default_rng(pairs)
        spread = math.sqrt(PAIR**2 + BOTH**2 / PROMPTS + IMAGE**2 / PROMPTS / SEEDS)
        known = rng.standard_normal(pairs)
        known *= spread / known.std(ddof=1)
        effect = detectable_effect(known.tolist())
        shown = [sign_flip_test((rng.normal(effect, spread, pairs)).tolist()) < 0.05 for _ in range(benches)]
        needed = pairs_needed(known.tolist(), effect)
        print(f"  {pairs:2} pairs: {np.mean(shown):.3f}; `pairs_needed` for it: {needed}", flush=True)


def mixed(benches: int) -> None:
    """Also over prompts: the interval speaks of all prompts there could be."""
    held, apart, rng = 0, np.zeros(3), np.random.default_rng(5)
    for _ in range(benches):
        data = images(rng, 24, 0.02)
        found = fit(data.ravel(), *codes(data.shape))
        held += found.low <= 0.02 <= found.high
        mean, error, variance = anova(data)
        if min(variance.values()) > 0:  # where none is at its bound, both are the same estimate
            half = (found.high - found.low) / 2 / T_23
            gaps = [abs(found.variance[name] - value) / value for name, value in variance.items()]
            apart = np.maximum(apart, [abs(found.estimate - mean), abs(half / error - 1), max(gaps)])
    print(f"the mixed model's 95 % interval holds the effect in {held / benches:.3f} of {benches} benches")
    print(
        f"  against mean squares: estimate {apart[0]:.1e}, standard error {apart[1]:.1e}, variances {apart[2]:.1e} (relative, largest)"
    )


def others() -> None:
    """The same p by scipy and statsmodels."""
    rng, gaps = np.random.default_rng(7), np.zeros(2)
    for count in (6, 8, 11):
        own = rng.normal(0.5, 1, count)
        theirs = permutation_test((own,), np.sum, permutation_type="samples", n_resamples=math.inf).pvalue
        gaps[0] = max(gaps[0], abs(theirs - sign_flip_test(own.tolist())))
        raw = rng.uniform(0, 0.2, count)
        gaps[1] = max(gaps[1], np.abs(multipletests(raw, method="holm")[1] - holm(raw.tolist())).max())
    print(f"largest gap to scipy's permutation test {gaps[0]:.1e}, to statsmodels' Holm {gaps[1]:.1e}")


T_23 = 2.0686576104190406  # the 97.5 % quantile of t with 23 degrees of freedom


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benches", type=int, default=2000)
    parser.add_argument("--mixed", type=int, default=200)
    options = parser.parse_args()
    others()
    coverage(options.benches)
    family(options.benches // 10)
    power(options.benches)
    mixed(options.mixed)


if __name__ == "__main__":
    main()
