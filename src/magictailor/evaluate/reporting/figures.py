"""The paper's figures from a bench: curves over a setting with intervals, and images side by side."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from magictailor.common.errors import InputError
from magictailor.common.pictures import grid
from magictailor.common.plots import subplots, to_image
from magictailor.evaluate.images import read_image
from magictailor.evaluate.records import first_seed
from magictailor.evaluate.reporting.paper import FIGURES, OURS, Sheet, Sweep
from magictailor.evaluate.reporting.selection import prompts_of, truth_of
from magictailor.evaluate.reporting.statistics import bootstrap
from magictailor.evaluate.reporting.tables import select_metrics
from magictailor.evaluate.scores import Scores, common, read_scores
from magictailor.generation.images import image_name
from magictailor.generation.studies import STUDIES

CELL = 128


def draw_figure(bench: Path, number: str, methods: Sequence[str] = (), metrics: Sequence[str] = ()) -> Image.Image:
    """Draw the paper's figure of this number, from the methods that the bench has.

    Args:
        methods: the columns of a figure of images, instead of the paper's.
        metrics: the panels of a figure of curves; all metrics if empty.

    Raises:
        InputError: no such figure, the bench has none of it, a method or metric that it lacks, methods for curves, metrics
            for images, a damaged image, or matplotlib is missing.
    """
    if number not in FIGURES:
        raise InputError(
            f"figure {number}: unknown", f"choose one of {', '.join(FIGURES)}; figure 5 is `magictailor learning`"
        )
    figure, scores = FIGURES[number], read_scores(bench)
    if isinstance(figure, Sweep):
        if methods:
            problem = f"{','.join(methods)}: figure {number} has curves over {figure.setting}"
            raise InputError(problem, "choose a figure of images, such as table-1", field="methods")
        return _sweep(figure, scores, bench, metrics)
    if missing := sorted(set(methods) - set(scores.methods)):
        raise InputError(f"{missing[0]}: not in {bench}", "add it to the spec's methods", field="methods")
    if metrics:
        curves = ", ".join(name for name, other in FIGURES.items() if isinstance(other, Sweep))
        raise InputError(
            f"{','.join(metrics)}: figure {number} has images", f"choose a figure of curves: {curves}", field="metrics"
        )
    return _sheet(replace(figure, methods=tuple(methods)) if methods else figure, scores, bench)


def _sweep(sweep: Sweep, scores: Scores, bench: Path, metrics: Sequence[str]) -> Image.Image:
    """Each metric over the setting: means with intervals over the images that all methods have; a dotted line at our
    default."""
    selected = select_metrics(scores, metrics)
    values = sweep.values
    methods = sorted((m for m in values if m in scores.methods), key=lambda m: values[m])
    if len(methods) < 2:
        raise InputError(
            f"{bench}: has fewer than two of {', '.join(values)}", "add them to the spec's methods", field="bench"
        )
    if not set.intersection(*(set(scores.pairs_with(m)) for m in methods)):
        problem = f"{bench}: {', '.join(methods)} have no pair in common"
        raise InputError(problem, "give them the same pairs", field="bench")
    figure, panels = subplots(len(selected), f"{sweep.title}: means over pairs, bootstrap (too narrow for few pairs)")
    for axes, (metric, higher) in zip(panels, selected.items(), strict=True):
        among = common([scores.values(m, metric).image for m in methods])
        means = {m: list(scores.pair_means(m, metric, among).values()) for m in methods}
        points = [(values[m], bootstrap(by_pair)) for m, by_pair in means.items() if by_pair]
        spread = [[i.mean - i.low for _, i in points], [i.high - i.mean for _, i in points]]
        axes.errorbar([x for x, _ in points], [i.mean for _, i in points], spread, marker="o", capsize=3)
        axes.axvline(values[OURS], color="grey", linestyle=":", linewidth=1)
        better, pairs = "higher" if higher else "lower", len(scores.pairs_of(among))
        axes.set(title=f"{metric} ({better} is better, pairs: {pairs})", xlabel=sweep.setting, xscale=sweep.scale)
    return to_image(figure)


def _titled_prompts(sheet: Sheet, scores: Scores, pair: str) -> dict[str, str]:
    """Titles by prompt: the linking words of a study's prompts, or none for the pair's first prompt."""
    prompts = prompts_of(scores, pair)
    if sheet.study is None:
        return dict.fromkeys(prompts[:1], "")
    texts = STUDIES[sheet.study].prompts
    links = {text: text.split("}")[1].split("{")[0].strip() for text in texts}
    starts = {link: text.split("{")[0] for text, link in links.items()}
    return {
        p: link for link, start in starts.items() for p in prompts if p.startswith(f"{start}<") and f"> {link} <" in p
    }


def _sheet(sheet: Sheet, scores: Scores, bench: Path) -> Image.Image:
    """Pairs in rows, without those that lack an image."""
    endings = tuple(sheet.pairs.split()) or ("",)
    pairs = [p for p in scores.pairs if p.endswith(endings)]
    methods = [m for m in sheet.methods if m in scores.methods]
    lines, titles, names, expected = [], [], [], 0
    for pair in pairs:
        prompts = _titled_prompts(sheet, scores, pair)
        paths = [bench / "images" / pair / m / image_name(p, first_seed(pair)) for m in methods for p in prompts]
        expected += len(paths)
        if not paths or not all(path.exists() for path in paths):
            continue
        truth = truth_of(bench, pair, next(iter(prompts)))
        lines.append([read_image(path) for path in ([truth] if truth else []) + paths])
        titles = (["truth"] if truth else []) + [prompts[p] or m for m in methods for p in prompts]
        names.append(pair)
    if not expected:
        need = f"the study {sheet.study}" if sheet.study else ", ".join(sheet.methods)
        need += f" on {sheet.pairs}" if sheet.pairs else ""
        raise InputError(f"{bench}: has nothing of {sheet.title}", f"add {need} to its spec", field="bench")
    if not lines:
        problem = f"{bench}: the images of {sheet.title} are gone"
        raise InputError(problem, "delete their rows in results/ and run the bench again", field="bench")
    return grid(lines, names, titles, cell=CELL)
