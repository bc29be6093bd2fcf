"""A study as TOML that a person can read and change."""

import json

from magictailor.study.design import Group, Study

HEAD = """\
# A study of people's choices. docs/study.md explains the keys. Texts and rules can be changed until the first answer comes;
# later changes of groups or questions would mix two studies. Methods are named only here: do not give this file to raters.
"""


def _text(value: str) -> str:
    """In quotes; JSON's escapes are TOML's, but for the character DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _long(value: str) -> str:
    """Between three quotes, its lines as they are."""
    escaped = _text(value)[1:-1].replace("\\n", "\n").replace('\\"', '"')
    safe = escaped.replace('"""', '\\"\\"\\"')
    return f'"""\n{safe}"""' if "\n" in value or len(value) > 80 else _text(value)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _group_lines(group: Group) -> list[str]:
    lines = [
        "",
        "[[groups]]",
        f"name = {_text(group.name)}",
        f"kind = {_text(group.kind)}",
        f"pair = {_text(group.pair)}",
        f"prompt = {_text(group.prompt)}",
    ]
    if group.answer is not None:
        lines.append(f"answer = {_text(group.answer)} # what must be chosen in every question")
    rows = (f"  {{file = {_text(r.file)}, caption = {_text(r.caption)}}}," for r in group.references)
    lines += ["references = [", *rows, "]"] if group.references else []
    return [
        *lines,
        "pictures = [",
        *(f"  {{file = {_text(p.file)}, method = {_text(p.method)}}}," for p in group.pictures),
        "]",
    ]


def study_toml(study: Study) -> str:
    """The text of a `study.toml`."""
    answering, entry, rule = study.answering, study.entry, study.exclusion
    lines = [
        HEAD,
        f"format = {study.format}",
        f"title = {_text(study.title)}",
        f"order_key = {_text(study.order_key)} # of the orders that raters see",
        *(f"{name} = {_long(getattr(study, name))}" for name in ("welcome", "instructions", "consent", "thanks")),
        "",
        "[answering]",
        f"choose = {_text(answering.choose)} # best: one of all pictures; pair: the better of two",
        f'tie = {_flag(answering.tie)} # may "no difference" be answered?',
        f'cannot_say = {_flag(answering.cannot_say)} # may "I cannot say" be answered?',
        "",
        "[entry]",
        f"mode = {_text(entry.mode)} # open, invited (a link for each rater), or crowd (a code at the end)",
        f"invitations = {entry.invitations}",
        f"max_raters = {entry.max_raters}",
        f"contact = {_text(entry.contact)} # where raters ask, and where they send files of a static page",
        "",
        "[exclusion] # who is left out of the table; decide before the first answer",
        f"max_failed_checks = {rule.max_failed_checks} # more failed checks than this",
        f"min_seconds = {rule.min_seconds} # a median time of an answer below this",
        f"min_answered = {rule.min_answered} # a smaller share of the questions answered than this",
    ]
    for question in study.questions:
        lines += [
            "",
            "[[questions]]",
            f"name = {_text(question.name)}",
            f"title = {_text(question.title)}",
            f"text = {_text(question.text)}",
        ]
    for group in study.groups:
        lines += _group_lines(group)
    return "\n".join(lines) + "\n"
