"""From a run to pictures: a plain diffusers pipeline, and records of what it draws."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack
from zlib import crc32

import torch
from PIL import Image
from torch import Tensor

from magictailor.backbones import Backbone, community_lora, load_backbone
from magictailor.backbones.placement import BITS, Where
from magictailor.backbones.presets import FAST
from magictailor.backbones.sampling import sample, scheduler
from magictailor.common.errors import InputError, RunError
from magictailor.common.pictures import grid, save_png
from magictailor.common.tensors import read_tensors, unprefixed
from magictailor.generation.two_stages import two_stages
from magictailor.recipe.naming import Naming
from magictailor.training.checkpoint import LORA_FILE, WEIGHTS_FILE, WORDS_FILE, RunInfo, finished, read_run
from magictailor.training.trainables import DENOISER, MATRIX, OWN_WEIGHTS, TEXT, WORDS

WORD_KINDS = {"pseudo-words", "embedding-matrix"}
WORD = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True)
class Record:
    """What a picture is, keyed by (pair, prompt, seed, method)."""

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
    """A picture and its record."""

    image: Image.Image
    record: Record


def _put_weights(backbone: Backbone, tensors: Mapping[str, Tensor]) -> None:
    """The base's own weights that a run trained, in their place."""
    networks = {DENOISER: backbone.denoiser, **{f"{TEXT}.{n}": e for n, e in backbone.text_encoders.items()}}
    for prefix, network in networks.items():
        own = unprefixed(prefix, tensors)
        network.load_state_dict(own, strict=False)


def _with_result(backbone: Backbone, info: RunInfo, folder: Path) -> Any:
    pipeline: Any = backbone.pipeline
    kinds = info.recipe.kinds
    backbone.add_words(info.words if kinds & WORD_KINDS else Naming(info.recipe, info.words).starts())
    tensors = read_tensors(folder / WORDS_FILE) if kinds & WORD_KINDS else {}
    rows, matrices = unprefixed(WORDS, tensors), unprefixed(MATRIX, tensors)
    for name, matrix in matrices.items():
        table: Any = backbone.text_encoders[name].get_input_embeddings()  # type: ignore[operator]
        table.weight.data.copy_(matrix)
    if rows:
        backbone.set_words({w: {e: rows[f"{w}.{e}"] for e in backbone.text_encoders} for w in info.words})
    if kinds & OWN_WEIGHTS:
        _put_weights(backbone, read_tensors(folder / WEIGHTS_FILE))
    if "lora" in kinds:
        read_tensors(folder / LORA_FILE)  # refuses a damaged or missing one
        pipeline.load_lora_weights(str(folder), weight_name=LORA_FILE, local_files_only=True)
    return pipeline


def finished_run(run: Path | str) -> tuple[Path, RunInfo]:
    """A run's folder and what it says. Raises InputError: no run there, or not finished."""
    folder = Path(run)
    info = read_run(folder)
    if not finished(folder):
        raise InputError(f"{folder}: the run is not finished; run its train command again, it goes on where it stopped")
    return folder, info


def load(run: Path | str, loras: Sequence[str] = (), **where: Unpack[Where]) -> Any:
    """A plain, unpatched diffusers pipeline with the run's LoRA and pseudo-words.

    Args:
        loras: community LoRAs to draw with, ``FILE`` or ``FILE=STRENGTH``, beside those that the run was trained with.
        where: see `Where`; the run's precision, unless given. A preset that keeps parts off the card has diffusers
            move each there when its turn comes.

    Raises:
        InputError: no run there, or not finished; no such device; a LoRA that does not fit.
    """
    return loaded(run, loras, where).pipeline


def _refuse_what_would_be_lost(folder: Path, info: RunInfo, loras: Sequence[str], where: Where) -> None:
    """A run's own weights take the place of the base's, with all that was merged into or packed in those."""
    if not info.recipe.kinds & OWN_WEIGHTS:
        return
    if loras:
        raise InputError(
            f"--lora: {folder} has weights of its own in the place of those that a LoRA would change; "
            "train on top of it instead: train --lora"
        )
    if where.get("precision") in BITS:
        raise InputError(f"--precision {where.get('precision')}: {folder} has weights of its own; draw in bf16 or fp32")


def loaded(run: Path | str, loras: Sequence[str], where: Where, as_pipeline: bool = True) -> Backbone:
    """A finished run as a backbone; see `load`. ``as_pipeline``: its pipeline will be called by itself."""
    folder, info = finished_run(run)
    _refuse_what_would_be_lost(folder, info, loras, where)
    where["precision"] = where.get("precision") or info.precision
    backbone = load_backbone(info.model, [*info.loras, *map(community_lora, loras)], **where)
    pipeline, place = _with_result(backbone, info, folder), backbone.place
    if not as_pipeline:
        return backbone
    if pipeline.vae.dtype != place.dtype:  # a pipeline by itself wants one precision, and mends what it must
        pipeline.vae.to(place.dtype)
    if place.preset.tiling:
        backbone.decode_in_tiles()
    if place.preset.offload and place.device.type != "cpu":
        pipeline.enable_model_cpu_offload(device=place.device)
    if place.compiled:
        backbone.compile()
    return backbone


def check_prompt(prompt: str, words: Sequence[str]) -> None:
    """Raises InputError for a pseudo-word that the run does not know."""
    unknown = [w for w in WORD.findall(prompt) if w not in words]
    if unknown:
        raise InputError(f"{unknown[0]}: not a pseudo-word of this run; it knows {', '.join(words)}")
    if not prompt.strip():
        raise InputError(f"the prompt is empty; write for instance {' with '.join(words)!r}")


def generate(
    run: Path | str,
    prompts: str | Sequence[str],
    *,
    number: int = 1,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    scheduler_name: str = "ddim",
    batch: int | None = None,
    loras: Sequence[str] = (),
    pipeline: Any = None,
    **where: Unpack[Where],
) -> Iterator[Generated]:
    """Pictures of the prompts, lazily: ``number`` of each, image i from seed ``seed + i`` whatever the batch.

    Args:
        steps, guidance: the run's recipe's, unless given.
        batch: pictures at a time; unless given, the preset's, and 8 with a ``pipeline``.
        loras, where: see `load`.
        pipeline: what `load` returned, to load it only once.

    Raises:
        InputError: before anything is drawn: no run, unknown pseudo-word or scheduler, numbers out of range.
    """
    folder, info = finished_run(run)
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    for text in texts:
        check_prompt(text, list(info.words))
    steps = info.recipe.sampling_steps if steps is None else steps
    guidance = info.recipe.guidance if guidance is None else guidance
    if number < 1 or not 1 <= steps <= 1000 or not 0 <= seed <= 2**32 - number or not 0 <= guidance <= 100:
        raise InputError("number must be at least 1, steps in 1 .. 1000, seeds in 0 .. 2^32 - 1, guidance in 0 .. 100")
    if steps <= info.recipe.base_steps:
        raise InputError(
            f"--steps {steps}: the first {info.recipe.base_steps} are the base's own with this method; draw with more"
        )
    if pipeline is None:
        backbone = loaded(folder, loras, where)
        pipeline, batch = backbone.pipeline, batch or backbone.place.preset.pictures
    pipeline.scheduler = scheduler(scheduler_name, pipeline.scheduler.config)
    size = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    keys, naming = [(text, seed + i) for text in texts for i in range(number)], Naming(info.recipe, info.words)

    def draw() -> Iterator[Generated]:
        images = sample(
            pipeline, [naming.written(k[0]) for k in keys], [k[1] for k in keys], steps, guidance, size,
            batch or FAST.pictures, stages=two_stages(info, folder, pipeline),
            first_prompts=[naming.plain(k[0]) for k in keys],
        )  # fmt: skip
        how = (info.recipe.method, info.model, steps, guidance, scheduler_name)
        try:
            for image, (text, own_seed) in zip(images, keys, strict=True):
                yield Generated(image, Record(info.pair["name"], text, own_seed, *how))
        except torch.OutOfMemoryError as error:
            raise RunError("out of memory; draw fewer at a time with --batch 1, or with a smaller --preset") from error

    return draw()


def slug(prompt: str) -> str:
    """A prompt as a file's name; two prompts may have one."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:80] or "prompt"


def picture_name(prompt: str, seed: int) -> str:
    """A file's name that no other picture has, whatever else lies there."""
    return f"{slug(prompt)}-{crc32(prompt.encode()):08x}-{seed}.png"


def save_pictures(pictures: Iterator[Generated], folder: Path) -> list[Path]:
    """PNGs with their records in their metadata, and a contact sheet of all in ``folder``."""
    done: list[Generated] = []
    owners: dict[str, str] = {}
    paths = []
    for item in pictures:
        prompt, seed = item.record.prompt, item.record.seed
        plain = owners.setdefault(slug(prompt), prompt) == prompt
        paths.append(folder / (f"{slug(prompt)}-{seed}.png" if plain else picture_name(prompt, seed)))
        save_png(item.image, paths[-1], item.record.metadata())
        done.append(item)
    prompts = list(dict.fromkeys(p.record.prompt for p in done))
    rows = [[p.image for p in done if p.record.prompt == text] for text in prompts]
    save_png(grid(rows, row_titles=prompts), folder / "sheet.png")
    return paths
