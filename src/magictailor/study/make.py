"""`study make`: a study from a finished bench. It stands alone: pictures are copied, and nothing in them names a method."""

import os
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from PIL import Image

from magictailor.common.errors import InputError
from magictailor.common.events import Listener, Progress, ignore
from magictailor.common.files import new_folder, output_folder, write_atomically, write_text
from magictailor.data.images import load_image
from magictailor.study.bench import Candidate, candidates
from magictailor.study.design import (
    PICTURES,
    STUDY_FILE,
    Answering,
    Entry,
    Group,
    Picture,
    Reference,
    Study,
    parse_study,
)
from magictailor.study.scramble import scrambled
from magictailor.study.texts import CONSENT, INSTRUCTIONS, QUESTIONS, THANKS, TITLE, welcome
from magictailor.study.toml import study_toml

PHOTOS = 3  # of each sample, next to a prompt


@dataclass(frozen=True)
class MakeOptions:
    """What a new study has.

    groups: that count. seed: of their choice. size: the longest side of a picture, in pixels; larger ones are scaled.
    questions: ``paper`` or ``fine``. checks, practice: number of further groups.
    """

    groups: int = 20
    seed: int = 0
    methods: tuple[str, ...] = ()
    questions: str = "paper"
    answering: Answering = field(default_factory=Answering)
    entry: Entry = field(default_factory=Entry)
    checks: int = 2
    practice: int = 1
    size: int = 768
    spec: Path | None = None


def stratified(found: Sequence[Candidate], count: int, seed: int) -> list[Candidate]:
    """``count`` of the candidates, as many of each pair as of any other, within one; prompts as different as they can be."""
    assert count <= len(found)
    rng = random.Random(seed)
    by_pair: dict[str, list[Candidate]] = {}
    for candidate in found:
        by_pair.setdefault(candidate.pair.name, []).append(candidate)
    pairs = list(by_pair)
    rng.shuffle(pairs)
    for own in by_pair.values():
        rng.shuffle(own)
    used: dict[str, int] = {}
    chosen: list[Candidate] = []
    while len(chosen) < count:
        for pair in pairs:
            if len(chosen) < count and by_pair[pair]:
                rarest = min(by_pair[pair], key=lambda c: used.get(_clause(c), 0))
                by_pair[pair].remove(rarest)
                used[_clause(rarest)] = used.get(_clause(rarest), 0) + 1
                chosen.append(rarest)
    return chosen


def _clause(candidate: Candidate) -> str:
    """The prompt without its subject: ``on the beach``."""
    return candidate.prompt.partition(", ")[2] or candidate.prompt


class _Pictures:
    """Pictures on their way into a study, under names that say nothing.

    They are written at the end in the order of their names, with the same time, and without the metadata of their files.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: dict[str, Image.Image] = {}
        self.references: dict[Path, str] = {}

    def add(self, image: Image.Image) -> str:
        small = image.convert("RGB")
        small.thumbnail((self.size, self.size), Image.Resampling.LANCZOS)
        name = f"{secrets.token_hex(8)}.png"
        self.images[name] = Image.frombytes("RGB", small.size, small.tobytes())  # only pixels
        return name

    def reference(self, path: Path) -> str:
        """A photo's name; the same for each group of its pair."""
        if path not in self.references:
            self.references[path] = self.add(load_image(path)[0])
        return self.references[path]

    def write(self, folder: Path, listen: Listener) -> None:
        for done, (name, image) in enumerate(sorted(self.images.items()), 1):
            write_atomically(folder / name, partial(image.save, format="PNG", optimize=True))
            os.utime(folder / name, (0, 0))
            listen(Progress("images", done, len(self.images)))


def _references(candidate: Candidate, pictures: _Pictures) -> tuple[Reference, ...]:
    return tuple(
        Reference(file=pictures.reference(photo.path), caption=f"this {sample.label}")
        for sample in candidate.pair.samples
        for photo in sample.references[:PHOTOS]
    )


def _method_pictures(candidate: Candidate, pictures: _Pictures) -> tuple[Picture, ...]:
    """One of each method, all of one size, so that a size tells nothing."""
    loaded = {method: load_image(path)[0] for method, path in candidate.pictures.items()}
    side = min(min(image.size) for image in loaded.values())
    if len({image.size for image in loaded.values()}) > 1:
        loaded = {method: image.resize((side, side), Image.Resampling.LANCZOS) for method, image in loaded.items()}
    return tuple(Picture(file=pictures.add(image), method=method) for method, image in loaded.items())


def _check_pictures(candidate: Candidate, count: int, rng: random.Random, pictures: _Pictures) -> tuple[Picture, ...]:
    """A good picture first, and broken ones of it: its tiles in another order."""
    good = load_image(candidate.truth or candidate.pictures[min(candidate.pictures)])[0]
    name = "truth" if candidate.truth else "intact"
    broken = (Picture(file=pictures.add(scrambled(good, rng)), method=f"broken {i}") for i in range(1, count))
    return (Picture(file=pictures.add(good), method=name), *broken)


def make_study(bench: Path, output: Path | str, options: MakeOptions | None = None, listen: Listener = ignore) -> Study:
    """Write a study into the new folder ``output``.

    Raises:
        InputError: the bench has too little, or an option is out of range; nothing has been written.
    """
    options = options or MakeOptions()
    _check(options)
    output_folder(output)
    found = candidates(bench, options.methods, options.spec)
    _check_enough(len(found), options)
    chosen = stratified(found, options.groups + options.practice, options.seed)
    rng = random.Random(f"checks {options.seed}")
    checked = [chosen[(i * len(chosen)) // options.checks] for i in range(options.checks)] if options.checks else []
    pictures = _Pictures(options.size)
    shown = 2 if options.answering.choose == "pair" else len(found[0].pictures)
    drafts = [("practice", c) for c in chosen[options.groups :]] + [("study", c) for c in chosen[: options.groups]]
    groups = []
    for kind, candidate in [*drafts, *(("check", c) for c in checked)]:
        is_check = kind == "check"
        own = _check_pictures(candidate, shown, rng, pictures) if is_check else _method_pictures(candidate, pictures)
        groups.append(
            {"kind": kind, "pair": candidate.pair.name, "prompt": candidate.shown_prompt, "answer": own[0].file if is_check else None,
             "references": _references(candidate, pictures), "pictures": own}
        )  # fmt: skip
    study = _study(groups, shown, options)
    text = study_toml(study)
    assert parse_study(text) == study
    with new_folder(output) as work:
        (work / PICTURES).mkdir()
        pictures.write(work / PICTURES, listen)
        write_text(work / STUDY_FILE, text)
    return study


def _study(groups: Sequence[Mapping[str, object]], shown: int, options: MakeOptions) -> Study:
    """The study of these groups, under names that do not tell checks from others."""
    names = [f"group-{number:02d}" for number in range(1, len(groups) + 1)]
    secrets.SystemRandom().shuffle(names)
    named = sorted(
        (Group.model_validate({"name": n, **g}) for n, g in zip(names, groups, strict=True)), key=lambda g: g.name
    )
    return Study(
        format=1,
        title=TITLE,
        order_key=secrets.token_hex(8),
        welcome=welcome(len(groups), shown, len(QUESTIONS[options.questions])),
        instructions=INSTRUCTIONS,
        consent=CONSENT,
        thanks=THANKS,
        answering=options.answering,
        entry=options.entry,
        questions=QUESTIONS[options.questions],
        groups=tuple(named),
    )


def _check(options: MakeOptions) -> None:
    ranges = {"groups": (1, 500), "checks": (0, 20), "practice": (0, 10), "size": (64, 4096)}
    for name, (low, high) in ranges.items():
        if not low <= getattr(options, name) <= high:
            raise InputError(f"{getattr(options, name)}: out of range", f"choose {low} .. {high}", field=name)
    if options.questions not in QUESTIONS:
        raise InputError(f"{options.questions}: unknown", f"choose {' or '.join(QUESTIONS)}", field="questions")


def _check_enough(found: int, options: MakeOptions) -> None:
    """Practice shows groups that do not count; checks show counted ones again."""
    groups, practice = options.groups, options.practice
    if groups + practice <= found:
        return
    has = f"the bench has {found} complete group{'s' * (found > 1)}"
    if not practice:
        raise InputError(f"{groups}: {has}", f"choose {found} or fewer", field="groups")
    problem = f"{groups}: with {practice} for practice, {groups + practice} are needed, and {has}"
    fix = (
        f"choose {found - practice} or fewer, or less practice"
        if found > practice
        else "choose fewer, and less practice"
    )
    raise InputError(problem, fix, field="groups")
