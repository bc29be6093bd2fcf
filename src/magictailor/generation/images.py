"""From a finished run to images, each with a record of how it was made."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import torch
from PIL import Image

from magictailor.backbones import Backbone
from magictailor.backbones.sampling import SamplingOptions, sample, scheduler
from magictailor.common.errors import InputError, RunError
from magictailor.common.events import Listener, Progress, ignore
from magictailor.common.pictures import grid, save_png
from magictailor.generation.two_stages import two_stages
from magictailor.recipe.naming import Naming
from magictailor.training.run_folder import RunInfo

WORD = re.compile(r"<[^<>\s]+>")


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

    def metadata(self) -> dict[str, str]:
        return {k: str(v) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Generated:
    """An image and its record."""

    image: Image.Image
    record: Record


def check_prompt(prompt: str, words: Sequence[str], field: str = "prompts") -> None:
    """Raises InputError for a pseudo-word that the run does not know, and for an empty prompt.

    ``field``: the caller's name of the argument, for the error.
    """
    unknown = [w for w in WORD.findall(prompt) if w not in words]
    if unknown:
        raise InputError(f"{unknown[0]}: not a pseudo-word of this run", f"it knows {', '.join(words)}", field=field)
    if not prompt.strip():
        raise InputError("the prompt is empty", f"write for instance {' with '.join(words)!r}", field=field)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises InputError for a number outside low .. high."""
    if not low <= value <= high:
        raise InputError(f"{value}: out of range", f"choose {low} .. {high}", field=name)


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
    listen: Listener = ignore,
) -> Iterator[Generated]:
    """Images of the prompts, lazily; see `magictailor.Run.generate`."""
    for prompt in prompts:
        check_prompt(prompt, list(info.words))
    config = info.recipe.sampling
    steps = config.steps if steps is None else steps
    guidance = config.guidance if guidance is None else guidance
    check_range("number", number, 1, 10**9)
    check_range("steps", steps, 1, 1000)
    check_range("seed", seed, 0, 2**32 - number)
    check_range("guidance", guidance, 0, 100)
    if steps <= config.base_steps:
        raise InputError(
            f"{steps}: the first {config.base_steps} are the base's own with this method", "choose more", field="steps"
        )
    scheduler_name = scheduler_name or next(iter(backbone.schedulers))
    scheduler(scheduler_name, backbone)  # refuses an unknown name before anything is generated
    options = SamplingOptions(steps, guidance, scheduler_name, batch=batch)
    keys, naming = [(text, seed + i) for text in prompts for i in range(number)], Naming(info.recipe, info.words)

    def images() -> Iterator[Generated]:
        made = sample(
            backbone,
            [naming.expand(prompt) for prompt, _ in keys],
            [own_seed for _, own_seed in keys],
            options,
            stages=two_stages(info, folder, backbone),
            first_prompts=[naming.with_labels(prompt) for prompt, _ in keys],
        )
        settings = (info.recipe.method, info.model, steps, guidance, scheduler_name)
        listen(Progress("generating", 0, len(keys)))
        try:
            for done, (image, (prompt, own_seed)) in enumerate(zip(made, keys, strict=True), 1):
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


def save_images(images: Iterator[Generated], folder: Path) -> list[Path]:
    """PNGs with their records in their metadata, and a contact sheet of all in ``folder``."""
    done: list[Generated] = []
    owners: dict[str, str] = {}
    paths = []
    for item in images:
        prompt, seed = item.record.prompt, item.record.seed
        unique = owners.setdefault(slug(prompt), prompt) == prompt
        paths.append(folder / (f"{slug(prompt)}-{seed}.png" if unique else image_name(prompt, seed)))
        save_png(item.image, paths[-1], item.record.metadata())
        done.append(item)
    prompts = list(dict.fromkeys(p.record.prompt for p in done))
    rows = [[p.image for p in done if p.record.prompt == text] for text in prompts]
    save_png(grid(rows, row_titles=prompts), folder / "sheet.png")
    return paths
