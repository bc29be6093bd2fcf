"""Figures of the paper from a bench: what a setting changes, as curves with intervals; and pictures side by side."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from magictailor.common.errors import InputError
from magictailor.common.pictures import grid
from magictailor.common.plots import plots, rendered
from magictailor.evaluate.records import Row, all_rows, first_seed
from magictailor.evaluate.reporting.paper import FIGURES, OURS, Sheet, Sweep
from magictailor.evaluate.reporting.shown import prompts_of, truth_of
from magictailor.evaluate.reporting.statistics import bootstrap
from magictailor.evaluate.reporting.tables import chosen, pair_means, shown_by
from magictailor.generation.pictures import picture_name
from magictailor.generation.studies import STUDIES

CELL = 128


def draw_figure(folder: Path, number: str, methods: Sequence[str] = (), only: Sequence[str] = ()) -> Image.Image:
    """The paper's figure of this number, as far as the bench has its methods.

    Args:
        methods: of pictures, these columns instead.
        only: of curves, these of a bench's figures; all, unless given.

    Raises:
        InputError: no such figure, nothing of it in the bench, a method or figure that it lacks, methods for curves, figures for
            pictures, or no matplotlib.
    """
    if number not in FIGURES:
        raise InputError(f"figure {number}: choose one of {', '.join(FIGURES)}; figure 5 is magictailor learning")
    what, rows = FIGURES[number], all_rows(folder)
    if methods:
        if isinstance(what, Sweep):
            raise InputError(
                f"--methods: figure {number} is curves over {what.setting}; choose pictures, such as table-1"
            )
        missing = sorted(set(methods) - {row.method for row in rows})
        if missing:
            raise InputError(f"--methods: {folder} has nothing of {missing[0]}; add it to the spec's methods")
        what = replace(what, methods=tuple(methods))
    if isinstance(what, Sweep):
        return _sweep(what, rows, folder, only)
    if only:
        curves = ", ".join(name for name, figure in FIGURES.items() if isinstance(figure, Sweep))
        raise InputError(f"--figures: figure {number} is pictures; choose curves: {curves}")
    return _sheet(what, rows, folder)


def _sweep(what: Sweep, rows: Sequence[Row], folder: Path, only: Sequence[str]) -> Image.Image:
    """Each judged figure over the setting: means over the pictures that all have, with intervals, and our default as a dotted line."""
    figures = chosen(rows, only)
    methods = sorted((m for m in what.values if any(row.method == m for row in rows)), key=lambda m: what.values[m])
    if len(methods) < 2:
        raise InputError(f"{folder}: has fewer than two of {', '.join(what.values)}; add them to the spec's methods")
    if not frozenset.intersection(*(frozenset(row.pair for row in rows if row.method == m) for m in methods)):
        raise InputError(f"{folder}: {', '.join(methods)} have no pair in common; give them the same pairs")
    page, panels = plots(len(figures), f"{what.title}: means over pairs, bootstrap (too narrow for few pairs)")
    for axes, (name, higher) in zip(panels, figures.items(), strict=True):
        among = frozenset.intersection(*(shown_by(rows, m, name) for m in methods))
        values = {m: list(pair_means(rows, m, name, among).values()) for m in methods}
        points = [(what.values[m], bootstrap(found)) for m, found in values.items() if found]
        means = [interval.mean for _, interval in points]
        spread = [[i.mean - i.low for _, i in points], [i.high - i.mean for _, i in points]]
        axes.errorbar([x for x, _ in points], means, spread, marker="o", capsize=3)
        axes.axvline(what.values[OURS], color="grey", linestyle=":", linewidth=1)
        better, pairs = "higher" if higher else "lower", len({pair for pair, *_ in among})
        axes.set(title=f"{name} ({better} is better, pairs: {pairs})", xlabel=what.setting, xscale=what.scale)
    return rendered(page)


def _prompts(what: Sheet, rows: Sequence[Row], pair: str) -> dict[str, str]:
    """Titles by prompt: a study's, or the pair's first."""
    asked = prompts_of(rows, pair)
    if what.study is None:
        return dict.fromkeys(asked[:1], "")
    texts = STUDIES[what.study].prompts
    links = {text: text.split("}")[1].split("{")[0].strip() for text in texts}
    shaped = {link: text.split("{")[0] for text, link in links.items()}
    return {
        p: link for link, start in shaped.items() for p in asked if p.startswith(f"{start}<") and f"> {link} <" in p
    }


def _sheet(what: Sheet, rows: Sequence[Row], folder: Path) -> Image.Image:
    ends = tuple(what.pairs.split()) or ("",)
    pairs = [p for p in dict.fromkeys(row.pair for row in rows) if p.endswith(ends)]
    methods = [m for m in what.methods if any(row.method == m for row in rows)]
    lines, titles, names, wanted = [], [], [], 0
    for pair in pairs:
        prompts = _prompts(what, rows, pair)
        paths = [folder / "images" / pair / m / picture_name(p, first_seed(pair)) for m in methods for p in prompts]
        wanted += len(paths)
        if not paths or not all(path.exists() for path in paths):
            continue
        truth = truth_of(folder, pair, next(iter(prompts)))
        lines.append([Image.open(path) for path in ([truth] if truth else []) + paths])
        titles = (["truth"] if truth else []) + [prompts[p] or m for m in methods for p in prompts]
        names.append(pair)
    if not wanted:
        need = f"the study {what.study}" if what.study else f"{', '.join(what.methods)}"
        raise InputError(
            f"{folder}: has nothing of {what.title}: its spec needs {need}{' on ' + what.pairs if what.pairs else ''}"
        )
    if not lines:
        raise InputError(
            f"{folder}: the pictures of {what.title} are gone; delete their rows in results/, and run the bench again"
        )
    return grid(lines, names, titles, cell=CELL)
