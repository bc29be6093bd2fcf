"""From a finished run to images, each with a record of how it was made."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

import torch
from PIL import Image

from magictailor.attachments import Request, load_attachments, records, sample_attached
from magictailor.backbones import Backbone
from magictailor.backbones.sampling import SamplingOptions, sample, scheduler
from magictailor.common.errors import InputError, RunError
from magictailor.common.events import Listener, Progress, ignore
from magictailor.common.pictures import fit_cell, grid, save_png
from magictailor.generation.checks import check_numbers, check_prompt
from magictailor.generation.two_stages import two_stages
from magictailor.recipe.naming import Naming
from magictailor.training.run_folder import RunInfo

SURELY_READ = 60  # characters: no text encoder cuts off so short a prompt
CELL, MOST_ROWS, MOST_COLUMNS = 128, 100, 50  # of the contact sheet: pixels, prompts, images of each


@dataclass(frozen=True)
class Record:
    """What an image is, keyed by (pair, prompt, seed, method)."""

    pair: str
    prompt: str
    seed: int
    method: str
    model: str
    steps: int
    guidance: float
    scheduler: str
    attached: Mapping[str, Any] = field(default_factory=dict)  # what joined in, by name, with digests

    def metadata(self) -> dict[str, str]:
        kept = {k: str(v) for k, v in asdict(self).items() if k != "attached"}
        return {**kept, **({"attached": json.dumps(self.attached)} if self.attached else {})}


@dataclass(frozen=True)
class Generated:
    """An image and its record."""

    image: Image.Image
    record: Record


def _check_length(backbone: Backbone, prompt: str, words: Sequence[str]) -> None:
    """Raises InputError for a pseudo-word that a text encoder cuts off."""
    present = [word for word in words if word in prompt]
    if len(prompt) < SURELY_READ or not present:
        return
    with torch.no_grad(), backbone.on_device("text"):
        spans = backbone.encode_text([prompt], present).spans[0]
    for word in present:
        if not spans.get(word):
            raise InputError(f"{word}: lies beyond the text encoder's length", "shorten the prompt", field="prompts")


def generate(
    backbone: Backbone,
    folder: Path,
    info: RunInfo,
    prompts: Sequence[str],
    *,
    number: int = 1,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    scheduler_name: str | None = None,
    batch: int | None = None,
    attachments: Sequence[Request] = (),
    listen: Listener = ignore,
) -> Iterator[Generated]:
    """Images of the prompts, lazily; see `magictailor.Run.generate`."""
    for prompt in prompts:
        check_prompt(prompt, list(info.words))
    config = info.recipe.sampling
    steps = config.steps if steps is None else steps
    guidance = config.guidance if guidance is None else guidance
    check_numbers(len(prompts), number, seed, steps, guidance, batch)
    if steps <= config.base_steps:
        raise InputError(
            f"{steps}: the first {config.base_steps} are the base's own with this method", "choose more", field="steps"
        )
    scheduler_name = scheduler_name or next(iter(backbone.schedulers))
    scheduler(scheduler_name, backbone)  # refuses an unknown name before anything is generated
    naming = Naming(info.recipe, info.words)
    for prompt in prompts:
        _check_length(backbone, naming.expand(prompt), list(info.words))
    options = SamplingOptions(steps, guidance, scheduler_name, batch=batch)
    keys = [(text, seed + i) for text in prompts for i in range(number)]
    if attachments and config.base_steps:
        raise InputError(
            f"{info.recipe.method} generates in two stages, which take no attachments", "leave them out", field="run"
        )
    loaded = load_attachments(backbone, attachments, steps)
    texts, seeds = [naming.expand(prompt) for prompt, _ in keys], [own_seed for _, own_seed in keys]

    def sampled() -> Iterator[Image.Image]:
        if not loaded:
            stages, labelled = two_stages(info, folder, backbone), [naming.with_labels(prompt) for prompt, _ in keys]
            yield from sample(backbone, texts, seeds, options, stages=stages, first_prompts=labelled)
            return
        yield from sample_attached(backbone, texts, seeds, options, loaded)

    def images() -> Iterator[Generated]:
        settings = (info.recipe.method, info.model, steps, guidance, scheduler_name, records(loaded))
        listen(Progress("generating", 0, len(keys)))
        try:
            for done, (image, (prompt, own_seed)) in enumerate(zip(sampled(), keys, strict=True), 1):
                listen(Progress("generating", done, len(keys)))
                yield Generated(image, Record(info.pair["name"], prompt, own_seed, *settings))
        except torch.OutOfMemoryError as error:
            raise RunError("out of memory; generate fewer at a time (batch 1), or choose a smaller preset") from error

    return images()


def slug(prompt: str) -> str:
    """A prompt as a file's name; two prompts may have the same."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:80] or "prompt"


def image_name(prompt: str, seed: int) -> str:
    """A file's name that no other (prompt, seed) has."""
    return f"{slug(prompt)}-{crc32(prompt.encode()):08x}-{seed}.png"


def _written(path: Path) -> dict[str, str]:
    """The texts in a PNG file; none if there is no such file or it is another kind of file."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            return {key: text for key, text in getattr(image, "text", {}).items() if isinstance(text, str)}
    except (OSError, SyntaxError, ValueError):
        return {}


def _own_file(folder: Path, stem: str, metadata: Mapping[str, str], end: str = "") -> Path:
    """A name that is free, or whose file says the same: nothing else is written over."""
    number = crc32(repr(sorted(metadata.items())).encode())
    for name in (stem, f"{stem}-{number:08x}"):
        path = folder / f"{name}{end}.png"
        if not os.path.lexists(path) or _written(path) == dict(metadata):
            return path
    return folder / f"{stem}-{number:08x}-{uuid4().hex[:8]}{end}.png"


def save_images(images: Iterator[Generated], folder: Path) -> list[Path]:
    """PNGs with their records in their metadata, and a contact sheet of all (as many as fit) in ``folder``.

    A file with other settings is never written over: then the new image gets another name.
    """
    rows: dict[str, list[Image.Image]] = {}
    paths: list[Path] = []
    for item in images:
        metadata = item.record.metadata()
        path = _own_file(folder, slug(item.record.prompt), metadata, f"-{item.record.seed}")
        if path in paths:  # asked for twice
            continue
        save_png(item.image, path, metadata)
        paths.append(path)
        row = rows.setdefault(item.record.prompt, []) if len(rows) < MOST_ROWS else rows.get(item.record.prompt, [])
        if len(row) < MOST_COLUMNS:
            row.append(fit_cell(item.image.convert("RGB"), CELL))
    content = sha256("\n".join(path.name for path in paths).encode()).hexdigest()
    sheet = _own_file(folder, "sheet", {"images": content})
    save_png(grid(list(rows.values()), row_titles=list(rows), cell=CELL), sheet, {"images": content})
    return paths
