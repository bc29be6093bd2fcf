"""The figure of a study: shares of choices with their intervals, and the paper's."""

from PIL import Image

from magictailor.common.plots import subplots, to_image
from magictailor.study.analysis import Analysis
from magictailor.study.paper import published

OURS_COLOR, PAPER_COLOR = "#2b5c8a", "#b0622a"


def draw_shares(analysis: Analysis) -> Image.Image:
    """A panel for each question: a method in each row. Raises InputError if matplotlib is missing."""
    methods = analysis.study.methods
    title = f"Share of choices, {analysis.included} raters, {len(analysis.study.counted)} groups (95 % intervals)"
    figure, panels = subplots(len(analysis.questions), title, width=4.2, height=0.42 * len(methods) + 1.3)
    rows = range(len(methods), 0, -1)
    for axes, result in zip(panels, analysis.questions, strict=True):
        means = [100 * share.interval.mean for share in result.shares]
        spread = [
            [100 * (s.interval.mean - s.interval.low) for s in result.shares],
            [100 * (s.interval.high - s.interval.mean) for s in result.shares],
        ]
        axes.errorbar(means, list(rows), xerr=spread, fmt="o", color=OURS_COLOR, capsize=3, label="this study")
        theirs = [
            (value, row)
            for method, row in zip(methods, rows, strict=True)
            if (value := published(method, result.question.name)) is not None
        ]
        if theirs:
            axes.plot(
                [v for v, _ in theirs],
                [r - 0.22 for _, r in theirs],
                "D",
                color=PAPER_COLOR,
                markersize=4,
                label="paper",
            )
        axes.axvline(100 * analysis.chance, color="grey", linestyle=":", linewidth=1, label="chance")
        axes.set_yticks(list(rows), methods)
        axes.set(title=result.question.title, xlabel="percent", xlim=(0, None), ylim=(0.4, len(methods) + 0.6))
    panels[-1].legend(fontsize=8, loc="lower right")
    return to_image(figure)
