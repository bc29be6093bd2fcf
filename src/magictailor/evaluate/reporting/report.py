"""A bench as one HTML page that opens offline: what was asked, what is shown, with intervals, costs and images."""

import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

import magictailor
from magictailor.common.errors import InputError
from magictailor.common.files import write_text
from magictailor.common.pictures import data_url
from magictailor.evaluate.anchor_names import ANCHORS
from magictailor.evaluate.design import Design, read_design
from magictailor.evaluate.images import read_image
from magictailor.evaluate.records import first_seed
from magictailor.evaluate.reporting.contrasts import (
    MULTIPLICITY,
    Contrast,
    Verdict,
    contrast_lines,
    contrasts,
    make_contrast,
    named_contrasts,
    p_text,
    verdict_lines,
    verdicts,
)
from magictailor.evaluate.reporting.factorial import factorial
from magictailor.evaluate.reporting.forest import Line, forest
from magictailor.evaluate.reporting.formats import cell_text, cost_texts
from magictailor.evaluate.reporting.mixed import mixed_effect
from magictailor.evaluate.reporting.paper import ABLATION_CLAIMS, OURS
from magictailor.evaluate.reporting.repeats import repeat_lines
from magictailor.evaluate.reporting.selection import prompts_of, truth_of
from magictailor.evaluate.reporting.strata import strata_lines
from magictailor.evaluate.reporting.tables import COSTS, Table, finished_scores, make_table
from magictailor.evaluate.scores import Scores
from magictailor.generation.images import image_name

MARKS = {0: "", 1: "best", 2: "second"}
MAIN = (
    "identity", "concept error", "component error", "concept share", "component share", "text", "kid",
    "clip-t", "clip-i", "dino", "dinov2", "dreamsim",
)  # fmt: skip
TESTED = ("identity", "concept error", "component error", "text")  # in contrasts
OF_TECHNIQUES = ("identity", "concept error", "component error", "pollution", "imbalance")  # in the 2 x 2
MOST_PAIRS, CELL = 12, 128  # of the images
KINDS = {"better": "better", "worse": "worse"}


def _inline(path: Path | None) -> str:
    """The PNG as a data URL, at most twice as large as it is shown; empty if there is none.

    Raises InputError for a damaged one.
    """
    if path is None or not path.exists():
        return ""
    image, data = read_image(path), path.read_bytes()
    if max(image.size) > 2 * CELL:
        out = io.BytesIO()
        image.thumbnail((2 * CELL, 2 * CELL))
        image.save(out, "PNG")
        data = out.getvalue()
    return data_url(data)


def _table_rows(table: Table, metrics: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for method in table.methods:
        cells = [table.cells[method].get(metric) for metric in metrics]
        texts = [
            {"text": mean, "interval": interval, "mark": MARKS[cell.rank] if cell else ""}
            for cell in cells
            for mean, _, interval in [cell_text(cell).partition(" ")]
        ]
        rows.append({"method": method, "anchor": ANCHORS.get(method, ""), "cells": texts})
    return rows


def _titles(table: Table, metrics: Sequence[str]) -> list[str]:
    return [f"{metric} {'↑' if table.metrics[metric] else '↓'}" for metric in metrics]


def _scale(table: Table, metric: str) -> str:
    """Where the methods are between floor and ceiling."""
    anchors = [
        ("anchor", table.cells[m][metric].interval.mean)
        for m in table.methods
        if m in ANCHORS and metric in table.cells[m]
    ]
    lines = [
        Line(m, cell.interval, "" if m not in ANCHORS else "anchor", cell_text(cell))
        for m in table.methods
        if (cell := table.cells[m].get(metric)) is not None
    ]
    return forest(lines, f"{metric}: mean over pairs, 95 % bootstrap interval", zero=False, marks=anchors)


def _difference_lines(found: Sequence[tuple[str, Contrast]]) -> list[Line]:
    """Differences in the direction of better, so that all rows of a plot read alike."""
    lines = []
    for label, contrast in found:
        sign, interval = (1 if contrast.higher_is_better else -1), contrast.interval
        low, high = sorted((sign * interval.low, sign * interval.high))
        flipped = type(interval)(sign * interval.mean, low, high)
        p = contrast.p if contrast.corrected is None else contrast.corrected
        note = f"{contrast.metric}, p {p_text(p)}" if not math.isnan(p) else f"{contrast.metric}, too few pairs"
        lines.append(Line(label, flipped, KINDS.get(contrast.result, ""), note))
    return lines


def _claims_plot(found: Sequence[Verdict]) -> str:
    short = [(f"{v.claim.better} / {v.claim.worse}", v.contrast) for v in found]
    return forest(_difference_lines(short), "difference, to the right is better for the first; 95 % sign-flip interval")


def _counts(results: Sequence[str]) -> str:
    """``6 hold, 14 undecided``."""
    plural = {"holds": "hold", "does not hold": "do not hold", "too few pairs": "have too few pairs"}
    counted = Counter(results).items()
    return ", ".join(f"{n} {plural.get(result, result) if n > 1 else result}" for result, n in counted)


def _image_rows(bench: Path, scores: Scores, methods: Sequence[str]) -> list[dict[str, Any]]:
    """For each pair the true image and each method's first image of its first prompt."""
    rows = []
    for pair in scores.pairs[:MOST_PAIRS]:
        prompts = prompts_of(scores, pair)
        if not prompts:
            continue
        name = image_name(prompts[0], first_seed(pair))
        images = [_inline(bench / "images" / pair / method / name) for method in methods]
        rows.append(
            {"pair": pair, "prompt": prompts[0], "truth": _inline(truth_of(bench, pair, prompts[0])), "images": images}
        )
    return [row for row in rows if row["truth"] or any(row["images"])]


def _primary(design: Design | None, scores: Scores) -> tuple[Contrast | None, str]:
    """The primary endpoint's contrast, and a sentence about it."""
    if design is None or design.primary is None:
        return None, "No primary endpoint was named beforehand, so every result below is exploratory."
    primary = design.primary
    named = f"Named on {primary.named}, {'before' if primary.beforehand else 'after'} there were scores: {primary}."
    found = make_contrast(scores, primary.method, primary.against, primary.metric, primary.margin)
    if found is None:
        return None, f"{named} The bench has no pair yet on which both were scored."
    pairs = len(found.differences)
    if design.pairs is not None and pairs < design.pairs:
        named += f" This is an interim look at {pairs} of {design.pairs} planned pairs, not the result."
    if math.isnan(found.interval.low):
        return found, f"{named} Difference {found.interval.mean:+.3f} on {pairs} pairs, too few to test."
    words = {"better": "It is shown to be better", "worse": "It is shown to be worse"}
    unclear = f"No difference is shown; a true one of {found.detectable:.3f} would be shown in four of five benches"
    result = words.get(found.result, unclear if found.margin is None else f"Result: {found.result}")
    gain = "" if math.isnan(found.gain) else f", {abs(found.gain):.0%} {'less' if found.gain > 0 else 'more'} error"
    interval = f"[{found.interval.low:+.3f}, {found.interval.high:+.3f}]"
    return found, f"{named} {result}: {found.interval.mean:+.3f} {interval}, p {p_text(found.p)}, {pairs} pairs{gain}."


def _sources(scores: Scores, found: Sequence[Contrast]) -> Iterator[list[str]]:
    """Where differences scatter, by the mixed model; nothing without statsmodels or with few pairs."""
    yield ["contrast", "metric", "mixed model", "p", "pair", "prompt", "pair x prompt", "image"]
    for contrast in found:
        try:
            effect = mixed_effect(scores, contrast.method, contrast.against, contrast.metric)
        except InputError:
            continue
        total = sum(effect.variance.values()) or 1.0
        shares = [
            f"{effect.variance.get(name, 0.0) / total:.0%}" for name in ("pair", "prompt", "pair x prompt", "image")
        ]
        interval = f"{effect.estimate:+.3f} [{effect.low:+.3f}, {effect.high:+.3f}]"
        yield [f"{contrast.method} against {contrast.against}", contrast.metric, interval, p_text(effect.p), *shares]


def _budget_rows(table: Table) -> list[list[str]]:
    return [
        [method, *cost_texts(table, method), table.recipes.get(method, "")]
        for method in table.methods
        if method not in ANCHORS
    ]


def _scores_section(table: Table) -> dict[str, Any]:
    main = [metric for metric in MAIN if metric in table.metrics] or list(table.metrics)
    rest = [metric for metric in table.metrics if metric not in main]
    plots = [_scale(table, metric) for metric in ("identity", "component error") if metric in table.metrics]
    return {
        "scales": [Markup(plot) for plot in plots if plot],
        "main": {"titles": _titles(table, main), "rows": _table_rows(table, main)},
        "rest": {"titles": _titles(table, rest), "rows": _table_rows(table, rest)} if rest else None,
    }


def _claims_section(bench: Path, scores: Scores) -> dict[str, Any]:
    found = verdicts(bench, scores)
    return {
        "counts": _counts([v.result for v in found]),
        "claims": verdict_lines(found),
        "claims_plot": Markup(_claims_plot(found)),
        "further": verdict_lines(verdicts(bench, scores, ABLATION_CLAIMS)),
    }


def _named_section(design: Design | None, named: Sequence[Contrast]) -> dict[str, Any]:
    lines = _difference_lines([(f"{c.method} / {c.against}", c) for c in named])
    return {
        "late": ", ".join(str(c) for c in design.contrasts if not c.beforehand) if design else "",
        "named": contrast_lines(named),
        "named_plot": Markup(forest(lines, "difference, to the right is better")),
    }


def _techniques_section(scores: Scores) -> dict[str, Any]:
    effects = factorial(scores, [metric for metric in OF_TECHNIQUES if metric in scores.metrics])
    lines = _difference_lines([(c.method, c) for c in effects])
    return {
        "effects": contrast_lines(effects),
        "effects_plot": Markup(forest(lines, "effect, to the right is better; 95 % sign-flip interval")),
    }


def _contrasts_section(
    bench: Path, scores: Scores, table: Table, against: str, asked: Sequence[Contrast]
) -> dict[str, Any]:
    """``asked``: contrasts of the design, whose differences are taken apart as well."""
    present = [metric for metric in TESTED if metric in scores.metrics]
    present = present or [metric for metric in table.metrics if metric in scores.metrics][:4]
    compared = contrasts(bench, against, present, scores)
    return {
        "against": against,
        "contrasts": contrast_lines(compared),
        "sources": list(_sources(scores, [*asked, *(c for c in compared if c.metric == present[0])])),
        "repeats": repeat_lines(scores, present),
    }


def write_report(bench: Path, output: Path, against: str | None = None, name: str = "") -> Path:
    """Write the page.

    Args:
        against: the method that the others are compared with; by default MagicTailor, if present.
        name: of the bench, for the title; by default the folder's.

    Raises:
        InputError: no finished trial, or the bench lacks the method ``against``.
    """
    scores, design = finished_scores(bench), read_design(bench)
    table = make_table(bench, scores=scores)
    methods = list(table.methods)
    trained = [method for method in methods if method not in ANCHORS]
    if against is None:
        against = OURS if OURS in methods else next(iter(trained), methods[0])
    primary, sentence = _primary(design, scores)
    named = named_contrasts(scores, design.contrasts) if design else []
    templates = Environment(loader=PackageLoader("magictailor.evaluate.reporting", "."), autoescape=True)
    text = templates.get_template("report.html").render(
        name=name or bench.resolve().name,
        pairs=len(scores.pairs),
        images=f"{scores.image_count:,}",
        trained=len(trained),
        training_seeds=len(scores.training_seeds),
        primary=sentence,
        primary_kind=KINDS.get(primary.result, "") if primary else "",
        **_named_section(design, named),
        **_scores_section(table),
        **_claims_section(bench, scores),
        **_techniques_section(scores),
        **_contrasts_section(bench, scores, table, against, [*([primary] if primary else []), *named]),
        multiplicity=MULTIPLICITY,
        methods=methods,
        rows=_image_rows(bench, scores, methods),
        costs=list(COSTS.values()),
        budgets=_budget_rows(table),
        strata=strata_lines(scores.pairs),
        notes=table.notes,
        version=magictailor.__version__,
    )
    write_text(output, text)
    return output
