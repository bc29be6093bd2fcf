"""From a finished run to images of prompts."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from PIL import Image

from magictailor.attachments import AttachmentSpec
from magictailor.attachments.contract import Attachment, records
from magictailor.attachments.sampling import load_attachments, sample_attached
from magictailor.backbones import Backbone
from magictailor.backbones.conditions import cut_off
from magictailor.backbones.sampling import SamplingOptions, sample, scheduler
from magictailor.common.errors import InputError, RunError
from magictailor.common.events import Listener, Progress, ignore
from magictailor.common.files import digest
from magictailor.generation.checks import check_numbers, check_prompt
from magictailor.generation.images import Generated, Record
from magictailor.generation.two_stages import two_stages
from magictailor.recipe.naming import Naming
from magictailor.training.run_folder import LORA_FILE, WEIGHTS_FILE, WORDS_FILE, RunInfo

SURELY_READ = 60  # characters: no text encoder cuts off so short a prompt


def _check_length(backbone: Backbone, prompt: str, words: Sequence[str]) -> None:
    """Raises InputError for a pseudo-word that a text encoder cuts off."""
    present = [word for word in words if word in prompt]
    if len(prompt) < SURELY_READ or not present:
        return
    with torch.no_grad(), backbone.on_device("text"):
        spans = backbone.encode_text([prompt], present).spans[0]
    for word in present:
        if not spans.get(word):
            raise cut_off(word, "shorten the prompt", field="prompts")


def _check_options(backbone: Backbone, info: RunInfo, options: SamplingOptions, is_attached: bool) -> None:
    """Raises InputError for options that the backbone or the run's method does not have."""
    if options.emphasis:
        _check_emphasis(backbone, info, options.guidance)
    scheduler(options.scheduler or "", backbone)  # refuses an unknown name
    own = info.recipe.sampling.base_steps
    if options.steps <= own:
        problem = f"{options.steps}: the first {own} are the base's own with this method"
        raise InputError(problem, f"choose at least {own + 1}", field="steps")
    if is_attached and own:
        problem = f"{info.recipe.method} generates in two stages, which take no attachments"
        raise InputError(problem, "leave them out", field="run")


def _check_emphasis(backbone: Backbone, info: RunInfo, guidance: float) -> None:
    """Raises InputError where nothing can be emphasised."""
    backbone.check_emphasis(guidance)
    if info.recipe.sampling.base_steps:
        raise InputError(f"{info.recipe.method} generates in two stages", "leave it out", field="emphasis")
    if len(info.words) < 2:
        raise InputError("the run has no component to emphasise", "leave it out", field="emphasis")


def _trained(folder: Path, backbone: Backbone) -> str:
    """A digest of the run's own files and of the community LoRAs, 16 hex digits."""
    parts = [digest(folder / name) for name in (LORA_FILE, WORDS_FILE, WEIGHTS_FILE) if (folder / name).exists()]
    parts += [f"{lora.sha256} {lora.strength}" for lora in backbone.loras]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


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
    emphasis: float | None = None,
    scheduler_name: str | None = None,
    batch: int | None = None,
    attachments: Sequence[AttachmentSpec] = (),
    listen: Listener = ignore,
) -> Iterator[Generated]:
    """Images of the prompts, lazily; see `magictailor.Run.generate`."""
    for prompt in prompts:
        check_prompt(prompt, list(info.words))
    config = info.recipe.sampling
    options = SamplingOptions(
        config.steps if steps is None else steps,
        config.guidance if guidance is None else guidance,
        scheduler_name or next(iter(backbone.schedulers)),
        batch=batch,
        emphasis=config.emphasis if emphasis is None else emphasis,
    )
    check_numbers(len(prompts), number, seed, options.steps, options.guidance, options.emphasis, batch)
    _check_options(backbone, info, options, bool(attachments))
    naming = Naming(info.recipe, info.words)
    for prompt in prompts:
        _check_length(backbone, naming.expand(prompt), list(info.words))
    loaded = load_attachments(backbone, attachments, options.steps)
    keys = [(prompt, seed + i) for prompt in prompts for i in range(number)]
    settings = (
        info.recipe.method, info.model, options.steps, options.guidance, options.scheduler or "", records(loaded),
        _trained(folder, backbone), backbone.runtime.precision, options.emphasis or None,
    )  # fmt: skip
    made = [Record(info.pair["name"], prompt, seed, *settings) for prompt, seed in keys]
    return _with_records(_images(backbone, folder, info, keys, options, loaded), made, listen)


def _with_records(images: Iterator[Image.Image], made: Sequence[Record], listen: Listener) -> Iterator[Generated]:
    """Each image with its record, lazily."""
    listen(Progress("generating", 0, len(made)))
    try:
        for done, (image, record) in enumerate(zip(images, made, strict=True), 1):
            listen(Progress("generating", done, len(made)))
            yield Generated(image, record)
    except torch.OutOfMemoryError as error:
        raise RunError("out of memory; generate fewer at a time (batch 1), or choose a smaller preset") from error


def _images(
    backbone: Backbone,
    folder: Path,
    info: RunInfo,
    keys: Sequence[tuple[str, int]],
    options: SamplingOptions,
    loaded: Sequence[Attachment],
) -> Iterator[Image.Image]:
    """An image for each (prompt, seed), lazily."""
    naming = Naming(info.recipe, info.words)
    texts, seeds = [naming.expand(prompt) for prompt, _ in keys], [seed for _, seed in keys]
    without = [naming.without_components(text) for text in texts]
    if loaded:
        yield from sample_attached(backbone, texts, seeds, options, loaded, without)
        return
    stages, labelled = two_stages(info, folder, backbone), [naming.with_labels(prompt) for prompt, _ in keys]
    yield from sample(backbone, texts, seeds, options, stages=stages, first_prompts=labelled, without=without)
