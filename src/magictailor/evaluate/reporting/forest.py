"""Forest plots as SVG: a line for each estimate with its interval, on one axis."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from magictailor.evaluate.reporting.statistics import Interval

WIDTH, LABELS, TEXTS, ROW, TOP, BOTTOM = 980, 300, 200, 24, 26, 42  # pixels
COLORS = {"better": "#1b7f4d", "worse": "#b3372f", "": "#5b6470", "anchor": "#8a6d1d"}
STEPS = (1, 2, 2.5, 5)  # of ticks, times a power of ten


@dataclass(frozen=True)
class Line:
    """``kind``: of `COLORS`. ``note``: at the right end."""

    label: str
    interval: Interval
    kind: str = ""
    note: str = ""


def _ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers between the two."""
    span = high - low
    power = 10 ** math.floor(math.log10(span / 5))
    step = next((s * power for s in (*STEPS, 10) if span / (s * power) <= 7), 10 * power)
    first = math.ceil(low / step)
    return [round((first + i) * step, 12) for i in range(int((high - first * step) / step + 1e-9) + 1)]


def _ends(lines: Sequence[Line], zero: bool) -> tuple[float, float]:
    values = [
        v for line in lines for v in (line.interval.low, line.interval.mean, line.interval.high) if not math.isnan(v)
    ]
    low, high = min([*values, *([0.0] if zero else [])]), max([*values, *([0.0] if zero else [])])
    margin = 0.06 * (high - low) or 0.05
    return low - margin, high + margin


def forest(lines: Sequence[Line], axis: str, zero: bool = True, marks: Sequence[tuple[str, float]] = ()) -> str:
    """An SVG image; empty without lines.

    Args:
        axis: its title.
        zero: draw a line at 0, where there is no difference.
        marks: further vertical lines, with their kinds.
    """
    lines = [line for line in lines if not math.isnan(line.interval.mean)]
    if not lines:
        return ""
    low, high = _ends(lines, zero)
    height, left, right = TOP + ROW * len(lines) + BOTTOM, LABELS, WIDTH - TEXTS

    def x(value: float) -> float:
        return round(left + (value - low) / (high - low) * (right - left), 1)

    parts = [
        f'<svg class="forest" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(axis)}" '
        'xmlns="http://www.w3.org/2000/svg" font-size="13">'
    ]
    end = height - BOTTOM
    for tick in _ticks(low, high):
        parts.append(f'<line x1="{x(tick)}" x2="{x(tick)}" y1="{TOP - 6}" y2="{end}" stroke="#e3e6ea"/>')
        parts.append(f'<text x="{x(tick)}" y="{end + 15}" text-anchor="middle" fill="#5b6470">{tick:g}</text>')
    for name, value in [*([("", 0.0)] if zero else []), *((n, v) for n, v in marks if low <= v <= high)]:
        style = 'stroke="#333"' if not name else f'stroke="{COLORS[name]}" stroke-dasharray="3 4" opacity=".7"'
        parts.append(f'<line x1="{x(value)}" x2="{x(value)}" y1="{TOP - 8}" y2="{end}" {style}/>')
    for number, line in enumerate(lines):
        parts.append(_row(line, TOP + ROW * number + ROW / 2, x))
    parts.append(f'<text x="{(left + right) / 2}" y="{height - 2}" text-anchor="middle" fill="#222">{escape(axis)}</text></svg>')  # fmt: skip
    return "".join(parts)


def _row(line: Line, y: float, at: Callable[[float], float]) -> str:
    color, found = COLORS[line.kind], line.interval
    parts = [f'<text x="{LABELS - 12}" y="{y + 4}" text-anchor="end" fill="#222">{escape(line.label)}</text>']
    if not math.isnan(found.low):
        parts.append(
            f'<line x1="{at(found.low)}" x2="{at(found.high)}" y1="{y}" y2="{y}" stroke="{color}" stroke-width="2"/>'
        )
        for end in (found.low, found.high):
            parts.append(
                f'<line x1="{at(end)}" x2="{at(end)}" y1="{y - 4}" y2="{y + 4}" stroke="{color}" stroke-width="2"/>'
            )
    parts.append(f'<circle cx="{at(found.mean)}" cy="{y}" r="4.5" fill="{color}"/>')
    parts.append(f'<text x="{WIDTH - TEXTS + 14}" y="{y + 4}" fill="{color}">{escape(line.note)}</text>')
    return "".join(parts)
