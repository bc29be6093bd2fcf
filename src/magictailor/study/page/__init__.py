"""The page that raters see: one HTML file with its style and script, served or as a folder of static files."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from magictailor.common.files import new_folder, write_text
from magictailor.study.design import PICTURES, Study, check_pictures
from magictailor.study.store import Answer
from magictailor.web.serving import theme

ANSWERS_FORMAT = "study answers"  # without the package's name, which is a method's too
ASSETS = {"theme.css": "text/css", "study.css": "text/css", "study.js": "text/javascript"}


def asset(name: str) -> str:
    """The text of a style sheet or script, by its file name."""
    return theme() if name == "theme.css" else Path(__file__).with_name(name).read_text("utf-8")


def page_data(study: Study) -> dict[str, Any]:
    """What the page gets of a study: nothing about methods, nor which group is a check."""
    groups = [
        {
            "name": group.name,
            "practice": group.kind == "practice",
            "prompt": group.prompt,
            "references": [{"file": r.file, "caption": r.caption} for r in group.references],
            "pictures": sorted(group.files),
        }
        for group in sorted(study.groups, key=lambda group: group.name)
    ]
    return {
        "title": study.title,
        "welcome": study.welcome,
        "instructions": study.instructions,
        "consent": study.consent,
        "thanks": study.thanks,
        "contact": study.entry.contact,
        "orderKey": study.order_key,
        "pair": study.answering.choose == "pair",
        "tie": study.answering.tie,
        "cannotSay": study.answering.cannot_say,
        "questions": [{"name": q.name, "text": q.text} for q in study.questions],
        "groups": groups,
    }


def answer_data(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    return [{"group": a.group, "question": a.question, "choice": a.choice, "revision": a.revision} for a in answers]


def render_page(study: Study, *, static: str, pictures: str, session: dict[str, Any]) -> str:
    """The HTML page.

    Args:
        static: what comes before the names of style sheets and the script; ``pictures``: before those of pictures.
        session: of this rater: ``mode`` (``server`` or ``file``), and for a server ``rater``, ``token``, ``answers``, ``code``.
    """
    template = Environment(loader=PackageLoader("magictailor.study", "page"), autoescape=True).get_template("page.html")
    data = {"study": page_data(study), "pictures": pictures, "session": session}
    return template.render(title=study.title, static=static, data=data)


def write_page(study: Study, folder: Path, output: Path | str) -> Path:
    """Write the study as a folder of static files, which needs no server; answers are saved to a file by each rater.

    Raises:
        InputError: ``output`` is not empty, or cannot be made; or a picture does not open.
    """
    check_pictures(study, folder)
    html = render_page(study, static="", pictures=f"{PICTURES}/", session={"mode": "file", "format": ANSWERS_FORMAT})
    with new_folder(output) as work:
        write_text(work / "index.html", html)
        for name in ASSETS:
            write_text(work / name, asset(name))
        (work / PICTURES).mkdir()
        for file in sorted(study.files):
            shutil.copyfile(folder / PICTURES / file, work / PICTURES / file)
            os.utime(work / PICTURES / file, (0, 0))  # times would tell which pictures were made together
    return Path(output)
