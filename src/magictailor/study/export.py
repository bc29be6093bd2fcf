"""`study export`: all answers as JSON with a data dictionary, or the study for Label Studio or potato."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

from PIL import Image

from magictailor.common.errors import InputError
from magictailor.common.files import json_text, new_folder, output_file, write_json, write_text
from magictailor.common.pictures import data_url, grid
from magictailor.study.arrangement import shown_pictures
from magictailor.study.design import CANNOT_SAY, PICTURES, TIE, Group, Study, check_pictures
from magictailor.study.raters import code_of, study_secret
from magictailor.study.results import Results
from magictailor.study.store import Store

CELL = 256
SPECIAL_LABELS = {TIE: "No difference", CANNOT_SAY: "I cannot say"}
MADE_BY = "magictailor study export"  # in the JSON file, which the same command may write over
FIXED = "everybody"  # the rater of whom the other tools' one order is
DICTIONARY = {
    "raters.rater": "random name of a rater",
    "raters.consented": "when the rater agreed, UTC",
    "raters.source": "server, or file (of a static page)",
    "raters.answered": "share of the questions that count, 0 .. 1",
    "raters.failed_checks": "number of attention checks with a wrong answer",
    "raters.seconds": "median time of an answer that counts",
    "raters.excluded": "the part of the rule by which the rater is left out of the table; empty if counted",
    "raters.code": "the code that the rater got at the end, where the study gives one",
    "answers.rater": "random name of a rater",
    "answers.group": "name of the group in study.toml",
    "answers.kind": "study (counts), practice or check",
    "answers.pair": "the bench's name of the pair",
    "answers.prompt": "the description, as the rater read it",
    "answers.question": "name of the question in study.toml",
    "answers.choice": "file of the chosen picture, tie, or cannot-say",
    "answers.method": "method that made the chosen picture; empty for a tie, and for cannot-say",
    "answers.shown": "methods that the rater could choose from, in the order they were shown",
    "answers.position": "place of the chosen picture, from 1; empty without one",
    "answers.revision": "1 for the first answer, one more for each change",
    "answers.seconds": "how long the rater looked at the screen for this answer, changes included",
    "answers.answered": "when, UTC",
}


def answers_tree(study: Study, folder: Path, store: Store) -> dict[str, Any]:
    """All answers, those that do not count included, with a data dictionary."""
    results = Results(study, store.answers())
    about = store.raters()
    secret = study_secret(folder) if study.entry.mode == "crowd" else b""
    records = {record.rater: record for record in results.records}
    raters = []
    for rater, (consented, source) in about.items():
        record = records.get(rater)
        raters.append({
            "rater": rater, "consented": consented, "source": source,
            "answered": record.answered if record else 0.0, "failed_checks": record.failed_checks if record else 0,
            "seconds": record.seconds if record else None, "excluded": record.excluded if record else "no answer",
            "code": code_of(rater, secret) if secret else "",
        })  # fmt: skip
    answers = []
    for answer in results.known:
        group = study.by_name[answer.group]
        methods = {picture.file: picture.method for picture in group.pictures}
        files = shown_pictures(study, answer.rater, group)
        place = files.index(answer.choice) + 1 if answer.choice in files else None
        answers.append({
            "rater": answer.rater, "group": group.name, "kind": group.kind, "pair": group.pair, "prompt": group.prompt,
            "question": answer.question, "choice": answer.choice, "method": methods.get(answer.choice, ""),
            "shown": [methods[file] for file in files], "position": place, "revision": answer.revision,
            "seconds": answer.seconds, "answered": answer.answered,
        })  # fmt: skip
    return {
        "made_by": MADE_BY,
        "study": study.title,
        "order_key": study.order_key,
        "dictionary": DICTIONARY,
        "raters": raters,
        "answers": answers,
    }


def _letters(study: Study, group: Group) -> dict[str, str]:
    """The shown files by letter, in one order for everybody, which these tools need."""
    files = shown_pictures(study, FIXED, group)
    return {chr(ord("A") + number): file for number, file in enumerate(files)}


def _sheet(study: Study, folder: Path, group: Group) -> str:
    """One PNG of a group's photos and lettered pictures, as a data address."""
    photos = [Image.open(folder / PICTURES / reference.file) for reference in group.references]
    letters = _letters(study, group)
    pictures = [Image.open(folder / PICTURES / file) for file in letters.values()]
    parts = [grid([photos], column_titles=[r.caption for r in group.references], cell=CELL // 2)] if photos else []
    parts.append(grid([pictures], column_titles=list(letters), cell=CELL))
    sheet = Image.new("RGB", (max(p.width for p in parts), sum(p.height for p in parts)), (255, 255, 255))
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return data_url(out.getvalue())


def _labels(study: Study) -> list[str]:
    return [chr(ord("A") + i) for i in range(study.shown)] + [SPECIAL_LABELS[choice] for choice in study.special]


def _label_studio(study: Study, folder: Path, output: Path) -> None:
    """A labelling configuration and its tasks."""
    view = xml.Element("View")
    xml.SubElement(view, "Header", value="$prompt")
    xml.SubElement(view, "Image", name="pictures", value="$pictures", zoom="true", zoomControl="true")
    for question in study.questions:
        xml.SubElement(view, "Header", value=question.text)
        choices = xml.SubElement(
            view,
            "Choices",
            name=question.name,
            toName="pictures",
            choice="single-radio",
            showInline="true",
            required="true",
        )
        for label in _labels(study):
            xml.SubElement(choices, "Choice", value=label)
    xml.indent(view)
    write_text(output / "config.xml", xml.tostring(view, encoding="unicode") + "\n")
    tasks = [
        {"data": {"group": group.name, "prompt": group.prompt, "pictures": _sheet(study, folder, group)}}
        for group in study.groups
    ]
    write_json(output / "tasks.json", tasks)


def _potato(study: Study, folder: Path, output: Path) -> None:
    """A configuration (JSON is YAML as well) and its items."""
    config = {
        "annotation_task_name": study.title,
        "task_dir": ".",
        "output_annotation_dir": "annotation_output",
        "output_annotation_format": "json",
        "data_files": ["items.json"],
        "item_properties": {"id_key": "id", "text_key": "prompt"},
        "instance_display": {"fields": [
            {"key": "prompt", "type": "text", "label": "Description"},
            {"key": "pictures", "type": "image", "label": "Photos and pictures", "display_options": {"zoomable": True}},
        ]},
        "user_config": {"allow_all_users": True, "users": []},
        "require_password": False,
        "annotation_schemes": [
            {"annotation_type": "radio", "name": q.name, "description": q.text, "labels": _labels(study), "label_requirement": {"required": True}}
            for q in study.questions
        ],
    }  # fmt: skip
    write_json(output / "config.yaml", config)
    items = [
        {"id": group.name, "prompt": group.prompt, "pictures": _sheet(study, folder, group)} for group in study.groups
    ]
    write_json(output / "items.json", items)


TOOLS: dict[str, Callable[[Study, Path, Path], None]] = {"label-studio": _label_studio, "potato": _potato}
README = {
    "label-studio": "In Label Studio, make a project, paste config.xml as its labelling interface, and import tasks.json.",
    "potato": "Run: potato start config.yaml",
}


def _key(study: Study) -> str:
    """Which method each letter is: CSV."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(["group", "kind", "letter", "method", "is the answer of a check"])
    for group in study.groups:
        methods = {picture.file: picture.method for picture in group.pictures}
        for letter, file in _letters(study, group).items():
            write([group.name, group.kind, letter, methods[file], "yes" if file == group.answer else ""])
    return out.getvalue()


def export_for_tool(study: Study, folder: Path, tool: str, output: Path | str) -> Path:
    """Write the study for another tool into the new folder ``output``; which method is which is in `key/`.

    Raises:
        InputError: an unknown tool, a picture that does not open, or ``output`` is not empty.
    """
    if tool not in TOOLS:
        raise InputError(f"{tool}: unknown", f"choose {', '.join(('json', *TOOLS))}", field="format")
    check_pictures(study, folder)
    note = (
        f"{README[tool]}\n\nEverybody sees the pictures in the same order: this tool draws none for each person. "
        "key/methods.csv says which method a letter is; do not give it to raters.\n"
    )
    with new_folder(output) as work:
        TOOLS[tool](study, folder, work)
        write_text(work / "README.txt", note)
        (work / "key").mkdir()
        write_text(work / "key" / "methods.csv", _key(study))
    return Path(output)


def export_json(study: Study, folder: Path, store: Store, output: Path | str) -> int:
    """Write all answers; returns their number. Raises InputError: ``output`` cannot be written."""
    path = output_file(output, (".json",), MADE_BY.encode())
    tree = answers_tree(study, folder, store)
    write_text(path, json_text(tree))
    return len(tree["answers"])
