"""`study add`: answers that raters saved from a static page, checked and taken in."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from magictailor.common.errors import InputError, RunError
from magictailor.study.arrangement import choices
from magictailor.study.database import SQLAlchemyError, unusable
from magictailor.study.design import Study
from magictailor.study.raters import RATER
from magictailor.study.store import Answer, Store

MAX_BYTES = 5_000_000
Time = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


class _FileModel(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class FileAnswer(_FileModel):
    """As `Answer`."""

    group: str = Field(max_length=40)
    question: str = Field(max_length=40)
    choice: str = Field(max_length=40)
    revision: int = Field(ge=1, le=100_000)
    seconds: float = Field(ge=0, le=86_400)
    answered: Time


class AnswersFile(_FileModel):
    """What the page saves. ``study``: the study's order key."""

    format: Literal["study answers"]
    version: Literal[1]
    study: str
    rater: Annotated[str, StringConstraints(pattern=RATER.pattern)]
    consented: Time
    answers: list[FileAnswer] = Field(max_length=20_000)


@dataclass(frozen=True)
class Added:
    """``new``: answers that were not there, or were older; ``known``: all others of the file."""

    file: Path
    rater: str
    new: int
    known: int


def _problem(error: ValidationError) -> str:
    """In words, why a JSON file is not what the page saves."""
    first = error.errors()[0]
    place = re.sub(r"[^\w. -]", "?", ".".join(map(str, first["loc"])))[:80]
    if place in ("", "format"):
        return "another kind of JSON file"
    if place == "version" and first["type"] == "literal_error":
        return f"version {first['input']!r:.20} is unknown"
    problems = {"missing": "is missing", "extra_forbidden": "is nothing that the page writes"}
    return f"{place} {problems.get(first['type'], 'is not as the page writes it')}"


def read_answers(study: Study, path: Path) -> tuple[AnswersFile, list[Answer]]:
    """A file's answers.

    Raises:
        InputError: not such a file, another study's, or an answer that this rater cannot have given.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(
                f"{path}: larger than {MAX_BYTES // 1_000_000} MB", "ask the rater for the file that the page saved"
            )
        tree = json.loads(path.read_text("utf-8"))
        found = AnswersFile.model_validate(tree)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "check the path") from error
    except (ValidationError, ValueError, RecursionError) as error:
        problem = _problem(error) if isinstance(error, ValidationError) else "it is not JSON"
        raise InputError(
            f"{path}: not a study's answers ({problem})", "ask the rater for the file that the page saved"
        ) from error
    if found.study != study.order_key:
        raise InputError(f"{path}: holds answers to another study", "add it to the study whose link the rater had")
    questions = {question.name for question in study.questions}
    seen: set[tuple[str, str]] = set()
    for answer in found.answers:
        group, key = study.by_name.get(answer.group), (answer.group, answer.question)
        known = (
            group is not None and answer.question in questions and answer.choice in choices(study, found.rater, group)
        )
        if not known or key in seen:
            shown = re.sub(r"[^\w./ -]", "?", f"{answer.group}/{answer.question}: {answer.choice}")
            raise InputError(
                f"{path}: this rater cannot have answered {shown}", "the file was changed, or study.toml was"
            )
        seen.add(key)
    return found, [Answer(found.rater, **answer.model_dump()) for answer in found.answers]


def add_answers(study: Study, store: Store, files: list[Path]) -> list[Added]:
    """Take in all files, or none; the same file again changes nothing.

    Raises:
        InputError: a file that is not right. RunError: the database refused.
    """
    read = [(path, *read_answers(study, path)) for path in files]
    added = []
    try:
        with store.writing() as connection:
            for path, found, answers in read:
                if not store.add_rater_of_file(connection, found.rater, study.entry.max_raters, found.consented):
                    problem = f"{path}: {found.rater} answers on the server, or the study has its {study.entry.max_raters} raters"
                    raise InputError(problem, "leave the file out, or raise entry.max_raters in study.toml")
                new = sum(store.replace(connection, answer) for answer in answers)
                added.append(Added(path, found.rater, new, len(answers) - new))
    except SQLAlchemyError as error:
        raise RunError(f"{unusable(store.database, error)}; nothing has been changed") from error
    return added
