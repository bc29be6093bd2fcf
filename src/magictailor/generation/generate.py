"""From a finished run to images of prompts."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from PIL import Image

from magictailor.attachments import Request
from magictailor.attachments.contract import records
from magictailor.attachments.sampling import load_attachments, sample_attached
from magictailor.backbones import Backbone
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
            raise InputError(f"{word}: lies beyond the text encoder's length", "shorten the prompt", field="prompts")


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
    attachments: Sequence[Request] = (),
    listen: Listener = ignore,
) -> Iterator[Generated]:
    """Images of the prompts, lazily; see `magictailor.Run.generate`."""
    for prompt in prompts:
        check_prompt(prompt, list(info.words))
    config = info.recipe.sampling
    steps = config.steps if steps is None else steps
    guidance = config.guidance if guidance is None else guidance
    emphasis = config.emphasis if emphasis is None else emphasis
    check_numbers(len(prompts), number, seed, steps, guidance, emphasis, batch)
    if emphasis:
        _check_emphasis(backbone, info, guidance)
    if steps <= config.base_steps:
        raise InputError(
            f"{steps}: the first {config.base_steps} are the base's own with this method", "choose more", field="steps"
        )
    scheduler_name = scheduler_name or next(iter(backbone.schedulers))
    scheduler(scheduler_name, backbone)  # refuses an unknown name before anything is generated
    naming = Naming(info.recipe, info.words)
    for prompt in prompts:
        _check_length(backbone, naming.expand(prompt), list(info.words))
    options = SamplingOptions(steps, guidance, scheduler_name, batch=batch, emphasis=emphasis)
    keys = [(text, seed + i) for text in prompts for i in range(number)]
    if attachments and config.base_steps:
        raise InputError(
            f"{info.recipe.method} generates in two stages, which take no attachments", "leave them out", field="run"
        )
    loaded = load_attachments(backbone, attachments, steps)
    texts, seeds = [naming.expand(prompt) for prompt, _ in keys], [own_seed for _, own_seed in keys]

    without = [naming.without_components(text) for text in texts]

    def sampled() -> Iterator[Image.Image]:
        if not loaded:
            stages, labelled = two_stages(info, folder, backbone), [naming.with_labels(prompt) for prompt, _ in keys]
            yield from sample(backbone, texts, seeds, options, stages=stages, first_prompts=labelled, without=without)
            return
        yield from sample_attached(backbone, texts, seeds, options, loaded, without)

    def images() -> Iterator[Generated]:
        settings = (
            info.recipe.method, info.model, steps, guidance, scheduler_name, records(loaded),
            _trained(folder, backbone), backbone.runtime.precision, emphasis or None,
        )  # fmt: skip
        listen(Progress("generating", 0, len(keys)))
        try:
            for done, (image, (prompt, own_seed)) in enumerate(zip(sampled(), keys, strict=True), 1):
                listen(Progress("generating", done, len(keys)))
                yield Generated(image, Record(info.pair["name"], prompt, own_seed, *settings))
        except torch.OutOfMemoryError as error:
            raise RunError("out of memory; generate fewer at a time (batch 1), or choose a smaller preset") from error

    return images()
