"""How far a thing in a picture is from the one that was asked for, and whether it moved toward another: on the judge's readings.

The truth is read by the same judge from a true picture of the same prompt, so a filter that changes colours changes both.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from magictailor.world.judgement import Seen
from magictailor.world.labels import Floats
from magictailor.world.scene import Component, Concept

COLOR_SCALE = 50.0  # CIELAB: from here on a colour is another one


def _distance(one: Seen, other: Seen, shade: str, its: str | None = None) -> float:
    """CIELAB distance of two readings' colours of a shade (``its``: the other's); infinite where one has none."""
    first, second = one.colors.get(shade), other.colors.get(its or shade)
    return float("inf") if first is None or second is None else float(np.linalg.norm(first - second))


def aligned(seen: Seen, truth: Seen) -> Seen:
    """With colour and accent in the order that fits: of stripes nobody can tell which is the ground."""
    if "plain" in (seen.pattern, truth.pattern) or "accent" not in seen.colors:
        return seen
    straight = _distance(seen, truth, "color") + _distance(seen, truth, "accent")
    crossed = _distance(seen, truth, "color", "accent") + _distance(seen, truth, "accent", "color")
    if straight <= crossed:
        return seen
    turned = {"color": seen.colors["accent"], "accent": seen.colors.get("color", seen.colors["accent"])}
    return replace(seen, colors={**seen.colors, **turned})


def color_error(seen: Seen, truth: Seen) -> float:
    """Mean over the colours of the true thing, 0 .. 1; one that is not there is wrong. Accents count where both have a pattern."""
    own, patterned = aligned(seen, truth), "plain" not in (seen.pattern, truth.pattern)
    wanted = [name for name in truth.colors if name != "accent" or patterned]
    return float(np.mean([min(1.0, _distance(own, truth, name) / COLOR_SCALE) for name in wanted] or [1.0]))


def thing_error(seen: Seen | None, truth: Seen, thing: Concept | Component, shape: bool) -> float:
    """0 .. 1: mean of the errors of colour, pattern and shape; 1 for what is not there.

    ``shape``: whether the concept's category or the component's style is right. A pattern that the judge misreads in the true
    picture is not asked. Proportions are not asked: the judge hardly reads them.
    """
    if seen is None:
        return 1.0
    errors = [color_error(seen, truth), float(not shape)]
    if truth.pattern == thing.surface.pattern:
        errors.append(float(seen.pattern != truth.pattern))
    return float(np.mean(errors))


def toward(judged: Floats, truth: Floats, other: Floats) -> float:
    """How far along the way from the truth to another value, 0 .. 1; sideways counts nothing."""
    way = other - truth
    length = float(way @ way)
    return float(np.clip((judged - truth) @ way / length, 0, 1)) if length > 0 else 0.0


def pollution(seen: Seen | None, truth: Seen, other: Seen | None) -> float | None:
    """How far a thing has become the other one: mean over colour, and pattern and style where the two differ.

    0 none, 1 fully the other's; None where there is nothing to compare.
    """
    if seen is None or other is None or not all("color" in s.colors for s in (seen, truth, other)):
        return None
    moved = [toward(aligned(seen, truth).colors["color"], truth.colors["color"], other.colors["color"])]
    moved += [float(a == o) for a, t, o in ((seen.pattern, truth.pattern, other.pattern), (seen.name, truth.name, other.name)) if o != t]  # fmt: skip
    return float(np.mean(moved))


def imbalance(errors: Sequence[float]) -> float:
    """The gap between the errors of the two sides, 0 .. 1."""
    first, second = errors
    return abs(first - second)
