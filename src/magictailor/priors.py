"""Prior pictures: what the base draws of a class before anything is trained, kept in the user's cache for all runs."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from PIL import Image

from magictailor.backbones import Backbone
from magictailor.data.batches import Picture, plain_picture
from magictailor.errors import InputError
from magictailor.files import output_folder, write_json
from magictailor.pictures import save_png
from magictailor.processes import first, wait
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


def _opened(path: Path) -> Image.Image | None:
    """A picture of the cache; None where there is none, or a damaged one."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError):
        return None


def _folder(key: Mapping[str, object]) -> Path:
    name = sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    try:
        return output_folder(cache_folder() / "priors" / name)
    except InputError as error:
        raise InputError(f"{str(error).replace('--output', CACHE)}; or set {CACHE} to a folder of yours") from error


def _drawn(backbone: Backbone, key: Mapping[str, object], missing: Sequence[Path]) -> Iterator[Path]:
    """Draw and keep these; picture ``000012.png`` is of seed 12, whatever the batch."""
    seeds = [int(path.stem) for path in missing]
    how = (int(str(key["steps"])), float(str(key["guidance"])), backbone.size, backbone.place.preset.pictures)
    prompts = [str(key["prompt"])] * len(seeds)
    with backbone.drawing():
        images = sample(backbone.pipeline, prompts, seeds, *how, eta=float(str(key["eta"])))
        for image, path in zip(images, missing, strict=True):
            save_png(image, path, {k: str(v) for k, v in key.items()})
            yield path


def prior_pictures(
    backbone: Backbone, recipe: Recipe, prompts: Sequence[str], draws: Draws
) -> dict[str, list[Picture]]:
    """The recipe's number of prior pictures of each distinct prompt; what is not in the cache is drawn.

    Interrupted, it goes on where it stopped; runs beside each other draw some twice, which are the same.

    Raises:
        InputError: nothing may be written in the cache's folder.
    """
    assert recipe.prior is not None
    keys = {prompt: _key(backbone, recipe, prompt) for prompt in dict.fromkeys(prompts)}
    paths = {p: [_folder(k) / f"{i:06d}.png" for i in range(recipe.prior.images)] for p, k in keys.items()}
    if first():
        missing = {prompt: [path for path in all_ if _opened(path) is None] for prompt, all_ in paths.items()}
        total, done = sum(map(len, missing.values())), 0
        for prompt, lacking in missing.items():
            if lacking:
                write_json(lacking[0].parent / "key.json", keys[prompt])
            for _ in _drawn(backbone, keys[prompt], lacking):
                done += 1
                draws(done, total)
    wait()
    kept = {prompt: [_opened(path) for path in all_] for prompt, all_ in paths.items()}
    assert all(image is not None for images in kept.values() for image in images), "drawn above"
    return {p: [plain_picture(i, backbone.size) for i in images if i is not None] for p, images in kept.items()}
