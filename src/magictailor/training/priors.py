"""Prior images: what the untrained base generates of a class, kept in the user's cache for all runs."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from magictailor.backbones import Backbone
from magictailor.backbones.community_lora import CommunityLoRA
from magictailor.backbones.sampling import SamplingOptions, sample
from magictailor.common.cache import CACHE, cache_folder
from magictailor.common.distributed import barrier, rank_and_world_size
from magictailor.common.errors import InputError
from magictailor.common.events import Listener, Progress
from magictailor.common.files import output_folder, write_json
from magictailor.common.pictures import save_png
from magictailor.recipe import Recipe


@dataclass(frozen=True)
class _Key:
    """All that a prior image depends on, except its seed; its JSON is hashed, and its fields go into the image's file."""

    model: str
    loras: list[CommunityLoRA]
    digest: str
    precision: str
    size: int
    together: int  # the images of a batch
    prompt: str
    steps: int
    guidance: float
    eta: float


def _key(backbone: Backbone, recipe: Recipe, prompt: str) -> _Key:
    prior, sampling, runtime = recipe.loss.prior, recipe.sampling, backbone.runtime
    assert prior is not None
    guidance = sampling.guidance if prior.guidance is None else prior.guidance
    return _Key(
        model=backbone.name,
        loras=list(backbone.loras),
        digest=backbone.digest_as_loaded or backbone.digest(),
        precision=runtime.precision,
        size=backbone.size,
        together=runtime.preset.sample_batch_size,
        prompt=prompt,
        steps=sampling.steps,
        guidance=guidance,
        eta=prior.eta,
    )


def _whole(path: Path) -> bool:
    """Whether this image is in the cache, and not damaged."""
    try:
        with Image.open(path) as image:
            image.load()
        return True
    except (OSError, ValueError):
        return False


def _folder(key: _Key) -> Path:
    name = sha256(json.dumps(asdict(key), sort_keys=True).encode()).hexdigest()[:16]
    try:
        return output_folder(cache_folder() / "priors" / name)
    except InputError as error:
        raise InputError(error.problem, f"{error.fix}, or set {CACHE} to a folder of yours", field=CACHE) from error


@contextmanager
def _untrained(backbone: Backbone) -> Iterator[None]:
    """Inside, the base generates without LoRA, also where training starts from another run's."""
    denoiser: Any = backbone.denoiser
    adapted = bool(getattr(denoiser, "peft_config", None))
    if adapted:
        denoiser.disable_adapters()
    try:
        yield
    finally:
        if adapted:
            denoiser.enable_adapters()


def _groups(paths: Sequence[Path], size: int) -> list[Sequence[Path]]:
    return [paths[i : i + size] for i in range(0, len(paths), size)]


def _generated(backbone: Backbone, key: _Key, group: Sequence[Path]) -> Iterator[Path]:
    """Generate a group and keep what is missing of it; ``000012.png`` has seed 12.

    Always a whole group: in a batch of another size an image may differ by a rounding, and an interrupted run would not
    equal an uninterrupted one.
    """
    size, first = key.together, int(group[0].stem)
    prompts, seeds = [key.prompt] * size, range(first, first + size)
    options = SamplingOptions(key.steps, key.guidance, eta=key.eta, batch=size)
    missing = {path for path in group if not _whole(path)}
    with _untrained(backbone):
        images = sample(backbone, prompts, seeds, options)
        for image, path in zip(images, group, strict=False):
            if path in missing:
                save_png(image, path, {k: str(v) for k, v in asdict(key).items()})
                yield path


def prior_images(backbone: Backbone, recipe: Recipe, prompts: Sequence[str], listen: Listener) -> dict[str, list[Path]]:
    """The recipe's number of prior images of each distinct prompt; those not in the cache are generated.

    An interruption goes on where it stopped. Runs at the same time generate some images twice, which are the same. Of
    several processes each generates some of the groups.

    Raises:
        InputError: the cache's folder cannot be written.
    """
    assert recipe.loss.prior is not None
    rank, world_size = rank_and_world_size()
    keys = {prompt: _key(backbone, recipe, prompt) for prompt in dict.fromkeys(prompts)}
    paths = {p: [_folder(k) / f"{i:06d}.png" for i in range(recipe.loss.prior.images)] for p, k in keys.items()}
    missing = [
        (prompt, group)
        for prompt, all_ in paths.items()
        for group in _groups(all_, backbone.runtime.preset.sample_batch_size)
        if not all(_whole(path) for path in group)
    ]
    own = missing[rank::world_size]
    total, done = sum(not _whole(path) for _, group in own for path in group), 0
    barrier()  # until all processes have counted what is missing
    for prompt, group in own:
        write_json(group[0].parent / "key.json", asdict(keys[prompt]))
        for _ in _generated(backbone, keys[prompt], group):
            done += 1
            listen(Progress("prior images", done, total))
    barrier()
    return paths
