"""`study table`: the numbers of a study as text, Markdown, LaTeX and CSV."""

import csv
import io
import math
from collections.abc import Callable, Sequence

from magictailor.evaluate.reporting.formats import aligned, piped
from magictailor.evaluate.reporting.statistics import Interval
from magictailor.study.analysis import Analysis, QuestionResult, Share
from magictailor.study.paper import ANSWERS, published

Lines = list[list[str]]


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.1f}"


def _interval(interval: Interval) -> str:
    return "" if math.isnan(interval.low) else f"[{_percent(interval.low)}, {_percent(interval.high)}]"


def _p(value: float) -> str:
    return "" if math.isnan(value) else "<.001" if value < 0.001 else f"{value:.3f}".lstrip("0")


def _published(method: str, result: QuestionResult) -> str:
    value = published(method, result.question.name)
    return "" if value is None else f"{value:.1f}"


def share_lines(analysis: Analysis) -> Lines:
    """The paper's Table 2 next to ours: for each method and question its share in percent, its interval, and the paper's."""
    titles = [title for r in analysis.questions for title in (r.question.title, "95 %", "paper")]
    lines = [["method", *titles]]
    for number, method in enumerate(analysis.study.methods):
        row = [method]
        for result in analysis.questions:
            share = result.shares[number]
            row += [_percent(share.interval.mean), _interval(share.interval), _published(method, result)]
        lines.append(row)
    return lines


def detail_lines(result: QuestionResult) -> Lines:
    """One question's shares with both intervals, the test against chance, and strengths."""
    lines = [["method", "share", "95 % bootstrap", "95 % Wilson", "p", "chosen", "of", "strength", "95 %"]]
    for number, share in enumerate(result.shares):
        strength = result.strengths[number].interval if result.strengths else Interval(math.nan, math.nan, math.nan)
        bounds = "" if math.isnan(strength.low) else f"[{strength.low:+.2f}, {strength.high:+.2f}]"
        lines.append([
            share.method, _percent(share.interval.mean), _interval(share.interval), _interval(share.wilson), _p(share.p),
            f"{share.chosen:g}", str(share.count), "" if math.isnan(strength.mean) else f"{strength.mean:+.2f}", bounds,
        ])  # fmt: skip
    return lines


def question_notes(result: QuestionResult) -> list[str]:
    """Agreement, order effects, ties."""
    places = ", ".join(map(str, result.positions))
    alpha = "unknown" if math.isnan(result.alpha) else f"{result.alpha:.2f}"
    notes = [
        f"two raters choose the same image in {_percent(result.agreement) or '?'} % (Krippendorff's alpha of the methods: {alpha})",
        f"chosen by place, from the first: {places} (all alike: p {_p(result.order_p) or 'unknown'})",
    ]
    if result.ties or result.cannot_say:
        notes.append(
            f"{result.ties} ties, each an equal share for all shown; {result.cannot_say} times cannot say, left out"
        )
    return notes


def study_notes(analysis: Analysis) -> list[str]:
    """What the table is of, and who was left out."""
    study, rule = analysis.study, analysis.study.exclusion
    excluded = [record for record in analysis.records if record.excluded]
    answers = sum(result.answers for result in analysis.questions)
    notes = [
        f"{answers} answers of {analysis.included} raters on {len(study.counted)} groups; median time of an answer {analysis.seconds:.1f} s",
        f"{len(excluded)} of {len(analysis.records)} raters are left out by the rule fixed beforehand: more than "
        f"{rule.max_failed_checks} failed checks of {len(study.checks)}, a median time below {rule.min_seconds:g} s, or less than "
        f"{rule.min_answered:.0%} answered",
        *(f"left out: {record.rater} ({record.excluded})" for record in excluded),
        f"shares in percent; chance is {_percent(analysis.chance)}; intervals by the studentised bootstrap over raters and groups",
        "Wilson's intervals and p take all answers for independent: too sure wherever raters or groups differ",
    ]
    if any(published(method, r.question.name) is not None for method in study.methods for r in analysis.questions):
        notes.append(f"paper: its table 2, {ANSWERS} answers, six methods, other images")
    if analysis.ignored:
        notes.append(f"{analysis.ignored} answers fit no group of study.toml as it is now, and are left out")
    return notes


def _as_text(analysis: Analysis) -> str:
    parts = ["\n".join(aligned(share_lines(analysis)))]
    for result in analysis.questions:
        parts.append("\n".join([result.question.title, *aligned(detail_lines(result)), *question_notes(result)]))
    return "\n\n".join([*parts, "\n".join(study_notes(analysis))])


def _as_markdown(analysis: Analysis) -> str:
    parts = ["\n".join(piped(share_lines(analysis)))]
    for result in analysis.questions:
        notes = [f"- {note}" for note in question_notes(result)]
        parts.append("\n".join([f"### {result.question.title}", "", *piped(detail_lines(result)), "", *notes]))
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in study_notes(analysis))])


def _escaped(text: str) -> str:
    return text.replace("%", r"\%").replace("_", r"\_").replace("&", r"\&").replace("#", r"\#")


def _as_latex(analysis: Analysis) -> str:
    """Only the first table; what belongs to it as comments."""
    head, *rows = share_lines(analysis)
    columns = "l" + "rcr" * len(analysis.questions)
    body = [" & ".join(map(_escaped, line)) + r" \\" for line in (head, *rows)]
    notes = [f"% {note}" for note in study_notes(analysis)]
    return "\n".join([*notes, rf"\begin{{tabular}}{{{columns}}}", body[0], r"\hline", *body[1:], r"\end{tabular}"])


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def csv_rows(analysis: Analysis) -> list[list[str]]:
    """One row for each question and method; shares in 0 .. 1."""
    head = ["question", "method", "share", "low", "high", "wilson low", "wilson high", "p", "chosen", "count",
            "strength", "strength low", "strength high", "alpha", "paper"]  # fmt: skip
    return [
        head,
        *(
            _csv_row(result, number, share)
            for result in analysis.questions
            for number, share in enumerate(result.shares)
        ),
    ]


def _csv_row(result: QuestionResult, number: int, share: Share) -> list[str]:
    strength = result.strengths[number].interval if result.strengths else Interval(math.nan, math.nan, math.nan)
    paper = published(share.method, result.question.name)
    values = [
        share.interval.mean, share.interval.low, share.interval.high, share.wilson.low, share.wilson.high, share.p, share.chosen,
        share.count, strength.mean, strength.low, strength.high, result.alpha, math.nan if paper is None else paper / 100,
    ]  # fmt: skip
    return [result.question.name, share.method, *map(_number, values)]


def _as_csv(analysis: Analysis) -> str:
    out = io.StringIO()
    rows: Sequence[Sequence[str]] = csv_rows(analysis)
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Analysis], str]] = {
    "text": _as_text,
    "markdown": _as_markdown,
    "latex": _as_latex,
    "csv": _as_csv,
}
