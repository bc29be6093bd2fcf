"""Prior pictures: what the base draws of a class before anything is trained, kept in the user's cache for all runs."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from magictailor.backbones import Backbone
from magictailor.errors import InputError
from magictailor.files import output_folder, write_json
from magictailor.pictures import save_png
from magictailor.processes import process, wait
from magictailor.recipe import Recipe
from magictailor.sampling import sample

Draws = Callable[[int, int], None]
CACHE = "MAGICTAILOR_CACHE"


def cache_folder() -> Path:
    """Where prior pictures are kept: $MAGICTAILOR_CACHE, or magictailor's folder in the user's cache."""
    own = os.environ.get(CACHE)
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "magictailor"


def _key(backbone: Backbone, recipe: Recipe, prompt: str) -> dict[str, object]:
    """All that such a picture depends on, but its seed."""
    assert recipe.prior is not None
    guidance = recipe.guidance if recipe.prior.guidance is None else recipe.prior.guidance
    how = {"prompt": prompt, "steps": recipe.sampling_steps, "guidance": guidance, "eta": recipe.prior.eta}
    base = {"model": backbone.name, "loras": [asdict(lora) for lora in backbone.loras], "digest": backbone.digest()}
    return {**base, "precision": backbone.place.precision, "size": backbone.size, **how}


def _whole(path: Path) -> bool:
    """Whether this picture is in the cache, and not damaged."""
    try:
        with Image.open(path) as image:
            image.load()
        return True
    except (OSError, ValueError):
        return False


def _folder(key: Mapping[str, object]) -> Path:
    name = sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    try:
        return output_folder(cache_folder() / "priors" / name)
    except InputError as error:
        raise InputError(f"{str(error).replace('--output', CACHE)}; or set {CACHE} to a folder of yours") from error


@contextmanager
def _untrained(backbone: Backbone) -> Iterator[None]:
    """Inside, the base itself draws, even where training begins from another run's LoRA."""
    denoiser: Any = backbone.denoiser
    adapted = bool(getattr(denoiser, "peft_config", None))
    if adapted:
        denoiser.disable_adapters()
    try:
        yield
    finally:
        if adapted:
            denoiser.enable_adapters()


def _drawn(backbone: Backbone, key: Mapping[str, object], missing: Sequence[Path]) -> Iterator[Path]:
    """Draw and keep these; picture ``000012.png`` is of seed 12, whatever the batch."""
    seeds = [int(path.stem) for path in missing]
    how = (int(str(key["steps"])), float(str(key["guidance"])), backbone.size, backbone.place.preset.pictures)
    prompts = [str(key["prompt"])] * len(seeds)
    with _untrained(backbone), backbone.drawing():
        images = sample(backbone.pipeline, prompts, seeds, *how, eta=float(str(key["eta"])))
        for image, path in zip(images, missing, strict=True):
            save_png(image, path, {k: str(v) for k, v in key.items()})
            yield path


def prior_pictures(backbone: Backbone, recipe: Recipe, prompts: Sequence[str], draws: Draws) -> dict[str, list[Path]]:
    """The recipe's number of prior pictures of each distinct prompt; what is not in the cache is drawn.

    Interrupted, it goes on where it stopped; runs beside each other draw some twice, which are the same. Of several
    processes each draws a part.

    Raises:
        InputError: nothing may be written in the cache's folder.
    """
    assert recipe.prior is not None
    number, processes = process()
    keys = {prompt: _key(backbone, recipe, prompt) for prompt in dict.fromkeys(prompts)}
    paths = {p: [_folder(k) / f"{i:06d}.png" for i in range(recipe.prior.images)] for p, k in keys.items()}
    missing = {prompt: [path for path in all_ if not _whole(path)] for prompt, all_ in paths.items()}
    wait()  # until all have looked: what one draws now must not look whole to another
    own = {prompt: lacking[number::processes] for prompt, lacking in missing.items()}
    total, done = sum(map(len, own.values())), 0
    for prompt, lacking in own.items():
        if lacking:
            write_json(lacking[0].parent / "key.json", keys[prompt])
        for _ in _drawn(backbone, keys[prompt], lacking):
            done += 1
            draws(done, total)
    wait()
    return paths
