"""A study as data: the keys of its `study.toml`, and their checks."""

import difflib
import reprlib
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from PIL import Image
from pydantic import Field, StringConstraints, ValidationError, model_validator

from magictailor.common.errors import InputError
from magictailor.common.records import parsed_toml
from magictailor.recipe import ConfigModel

STUDY_FILE, PICTURES = "study.toml", "pictures"
TIE, CANNOT_SAY = "tie", "cannot-say"  # choices next to the pictures' file names

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
File = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}\.(png|jpg)$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\r\n]*$")]


class Answering(ConfigModel):
    """How a rater answers.

    choose: ``best``, one of all pictures of a group; or ``pair``, the better of two that are drawn for each rater.
    tie: whether "no difference" may be answered.
    cannot_say: whether "I cannot say" may be answered.
    """

    choose: Literal["best", "pair"] = "best"
    tie: bool = False
    cannot_say: bool = False


class Entry(ConfigModel):
    """Who may take part.

    mode: ``open``, anybody with the study's link; ``invited``, one link for each rater; ``crowd``, open, with a code at
        the end that a crowd platform asks for.
    invitations: number of links for ``invited``.
    max_raters: after so many raters, nobody new can start.
    contact: where raters ask, and where they send the file of a static page.
    """

    mode: Literal["open", "invited", "crowd"] = "open"
    invitations: int = Field(0, ge=0, le=10_000)
    max_raters: int = Field(1000, ge=1, le=1_000_000)
    contact: str = Field("", max_length=200)

    @model_validator(mode="after")
    def _check_invitations(self) -> Self:
        if (self.mode == "invited") != (self.invitations > 0):
            raise ValueError("invitations must be above 0 for the mode invited, and 0 for others")
        return self


class Exclusion(ConfigModel):
    """The rule, fixed beforehand, by which raters are left out of the table.

    max_failed_checks: a rater who fails more checks than this. A check fails if one of its answers is wrong.
    min_seconds: a rater whose median time of an answer is below this.
    min_answered: a rater who answered a smaller share of the study's questions than this.
    """

    max_failed_checks: int = Field(0, ge=0)
    min_seconds: float = Field(1.0, ge=0, le=600)
    min_answered: float = Field(0.5, ge=0, le=1)


class Question(ConfigModel):
    """``title``: the heading of its column; ``text``: what raters read."""

    name: Name
    title: Line
    text: Line


class Reference(ConfigModel):
    """A photo that is shown next to the prompt. ``file``: in `pictures/`."""

    file: File
    caption: Line


class Picture(ConfigModel):
    """A picture that can be chosen, and the method that made it."""

    file: File
    method: Line


class Group(ConfigModel):
    """One screen: a prompt, references, and the pictures of all methods.

    kind: ``study`` counts; ``practice`` comes first and does not count; ``check`` has an answer that is known.
    pair: the bench's name of the pair; raters do not see it.
    prompt: as raters read it, without pseudo-words.
    answer: of a check, the file that must be chosen in every question.
    """

    name: Name
    kind: Literal["study", "practice", "check"] = "study"
    pair: str = ""
    prompt: Line
    references: tuple[Reference, ...] = ()
    pictures: tuple[Picture, ...] = Field(min_length=2, max_length=24)
    answer: File | None = None

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(picture.file for picture in self.pictures)

    @model_validator(mode="after")
    def _check_answer(self) -> Self:
        if (self.kind == "check") != (self.answer is not None):
            raise ValueError("a check needs an answer, and only a check has one")
        if self.answer is not None and self.answer not in self.files:
            raise ValueError(f"the answer {self.answer} is not one of its pictures")
        return self


class Study(ConfigModel):
    """A study, with the keys of its `study.toml`.

    order_key: of the orders that raters see; it says nothing about methods.
    """

    format: Literal[1]
    title: Line
    order_key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    welcome: Text
    instructions: Text
    consent: Text
    thanks: Text
    answering: Answering = Field(default_factory=Answering)
    entry: Entry = Field(default_factory=Entry)
    exclusion: Exclusion = Field(default_factory=Exclusion)
    questions: tuple[Question, ...] = Field(min_length=1, max_length=10)
    groups: tuple[Group, ...] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        for kind, names in (("questions", self.questions), ("groups", self.groups)):
            if name := _repeated(item.name for item in names):
                raise ValueError(f"two {kind} are called {name}")
        if file := _repeated(file for group in self.groups for file in group.files):
            raise ValueError(f"{file} is in two groups, or twice in one")
        if not self.counted:
            raise ValueError("no group has the kind study")
        for group in self.counted:
            if name := _repeated(picture.method for picture in group.pictures):
                raise ValueError(f"group {group.name} has two pictures of {name}")
            if {p.method for p in group.pictures} != set(self.methods):
                raise ValueError(f"group {group.name} has different methods from {self.counted[0].name}")
        if self.answering.choose == "pair" and any(g.kind == "check" and len(g.pictures) != 2 for g in self.groups):
            raise ValueError('a check must have exactly two pictures when answering.choose is "pair"')
        return self

    @cached_property
    def counted(self) -> tuple[Group, ...]:
        """The groups whose answers count."""
        return tuple(group for group in self.groups if group.kind == "study")

    @cached_property
    def checks(self) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if group.kind == "check")

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order of the first group that counts."""
        return tuple(picture.method for picture in self.counted[0].pictures)

    @cached_property
    def by_name(self) -> dict[str, Group]:
        return {group.name: group for group in self.groups}

    @cached_property
    def files(self) -> frozenset[str]:
        """The files of all pictures and photos."""
        return frozenset(f for g in self.groups for f in (*g.files, *(r.file for r in g.references)))

    @property
    def shown(self) -> int:
        """The number of pictures that one question chooses from."""
        return 2 if self.answering.choose == "pair" else len(self.methods)

    @property
    def special(self) -> tuple[str, ...]:
        """The choices next to the pictures."""
        allowed = ((TIE, self.answering.tie), (CANNOT_SAY, self.answering.cannot_say))
        return tuple(choice for choice, is_allowed in allowed if is_allowed)


def _repeated(names: Iterable[str]) -> str:
    """The first name that occurs twice, or an empty text."""
    return next((name for name, count in Counter(names).items() if count > 1), "")


FIXES = {
    "extra_forbidden": "remove it",
    "missing": "add it",
    "literal_error": "choose one of {expected}",
    "greater_than_equal": "choose {ge} or more",
    "less_than_equal": "choose {le} or less",
    "string_pattern_mismatch": "write it like {example}",
    "bool_type": "write true or false",
    "int_type": "write a whole number",
    "float_type": "write a number",
    "string_type": "write a text in quotes",
    "too_short": "list at least {min_length}",
    "too_long": "list at most {max_length}",
    "string_too_short": "write a text",
    "string_too_long": "write at most {max_length} characters",
}
EXAMPLES = {
    "file": "0123456789abcdef.png",
    "answer": "0123456789abcdef.png",
    "name": "group-01",
    "order_key": "0123456789abcdef",
}


def parse_study(text: str, path: Path | str = STUDY_FILE) -> Study:
    """A study from the text of its TOML file.

    Raises:
        InputError: the first key that is unknown, missing or out of range: its name, its value, and a fix.
    """
    try:
        tree = parsed_toml(text)
    except ValueError as error:
        raise InputError(f"{path}: {error}", "correct that line, or make the study again") from error
    try:
        return Study.model_validate(tree, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the study"
        last = str(first["loc"][-1]) if first["loc"] else ""
        context = {**first.get("ctx", {}), "example": EXAMPLES.get(last, "one line of text")}
        fix = FIXES.get(first["type"], "").format(**context)
        if first["type"] == "value_error":
            raise InputError(f"{path}: {key}: {context['error']}", "correct it there") from error
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(last, _known_keys(), 1)
            fix = f"the nearest key is {near[0]}" if near else fix
        if first["type"] == "missing":
            raise InputError(f"{path}: {key}: missing", fix) from error
        raise InputError(f"{path}: {key}: {reprlib.repr(first['input'])}", fix or first["msg"].lower()) from error


def _known_keys() -> list[str]:
    models = (Study, Answering, Entry, Exclusion, Question, Group, Picture, Reference)
    return [name for model in models for name in model.model_fields]


def read_study(folder: Path | str) -> Study:
    """The study in a folder; its pictures must be there.

    Raises:
        InputError: no study there, an invalid TOML file, or a picture that is missing.
    """
    folder = Path(folder)
    path = folder / STUDY_FILE
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text"
        raise InputError(
            f"{folder}: not a study ({STUDY_FILE}: {reason})",
            f"make one with `magictailor study make BENCH --output {folder}`",
            field="study",
        ) from error
    study = parse_study(text, path)
    for file in sorted(study.files):
        if not (folder / PICTURES / file).is_file():
            raise InputError(f"{folder / PICTURES / file}: missing", "copy it back, or make the study again")
    return study


def check_pictures(study: Study, folder: Path) -> None:
    """Before raters see them: each picture opens. PNGs are checked by their checksums, JPEGs are decoded small.

    Raises:
        InputError: a file that is not a PNG or JPEG, or is cut short.
    """
    for file in sorted(study.files):
        path = folder / PICTURES / file
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                if image.format == "PNG":
                    image.verify()
                else:
                    image.draft("RGB", (64, 64))
                    image.load()
        except Exception as error:  # Pillow's decoders raise nearly anything on broken data
            problem = f"{path}: not a PNG or JPEG that can be opened"
            raise InputError(problem, "copy it back, or make the study again") from error
