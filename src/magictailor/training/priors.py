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
from magictailor.backbones.sampling import sample
from magictailor.common.errors import InputError
from magictailor.common.files import output_folder, write_json
from magictailor.common.pictures import save_png
from magictailor.common.processes import process, wait
from magictailor.recipe import Recipe

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
    return {
        **base,
        "precision": backbone.place.precision,
        "size": backbone.size,
        "together": backbone.place.preset.pictures,
        **how,
    }


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


def _groups(paths: Sequence[Path], size: int) -> list[Sequence[Path]]:
    return [paths[i : i + size] for i in range(0, len(paths), size)]


def _drawn(backbone: Backbone, key: Mapping[str, object], group: Sequence[Path]) -> Iterator[Path]:
    """Draw a group and keep what is missing of it; ``000012.png`` is of seed 12.

    Always a whole group, whatever is missing or wanted of it: in a batch of another size a picture may differ by a rounding, and an
    interrupted run would not equal an uninterrupted one.
    """
    steps, guidance, eta = (float(str(key[name])) for name in ("steps", "guidance", "eta"))
    size, first = int(str(key["together"])), int(group[0].stem)
    prompts, seeds = [str(key["prompt"])] * size, range(first, first + size)
    missing = {path for path in group if not _whole(path)}
    with _untrained(backbone), backbone.drawing():
        how = (int(steps), guidance, backbone.size, size)
        images = sample(backbone.pipeline, prompts, seeds, *how, eta=eta)
        for image, path in zip(images, group, strict=False):
            if path in missing:
                save_png(image, path, {k: str(v) for k, v in key.items()})
                yield path


def prior_pictures(backbone: Backbone, recipe: Recipe, prompts: Sequence[str], draws: Draws) -> dict[str, list[Path]]:
    """The recipe's number of prior pictures of each distinct prompt; what is not in the cache is drawn.

    Interrupted, it goes on where it stopped; runs beside each other draw some twice, which are the same. Of several
    processes each draws some of the groups.

    Raises:
        InputError: nothing may be written in the cache's folder.
    """
    assert recipe.prior is not None
    number, processes = process()
    keys = {prompt: _key(backbone, recipe, prompt) for prompt in dict.fromkeys(prompts)}
    paths = {p: [_folder(k) / f"{i:06d}.png" for i in range(recipe.prior.images)] for p, k in keys.items()}
    lacking = [
        (prompt, group)
        for prompt, all_ in paths.items()
        for group in _groups(all_, backbone.place.preset.pictures)
        if not all(_whole(path) for path in group)
    ]
    total, done = sum(not _whole(path) for _, group in lacking[number::processes] for path in group), 0
    wait()  # until all have looked: what one draws now must not look whole to another
    for prompt, group in lacking[number::processes]:
        write_json(group[0].parent / "key.json", keys[prompt])
        for _ in _drawn(backbone, keys[prompt], group):
            done += 1
            draws(done, total)
    wait()
    return paths
