"""From a pair to a finished run's folder: the whole of training as one function."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import torch

from magictailor.backbones import Backbone, RuntimeOptions, community_lora, load_backbone
from magictailor.common.distributed import process_group
from magictailor.common.errors import InputError, RunError
from magictailor.common.events import Listener, Notice, ignore, with_log
from magictailor.common.files import output_folder
from magictailor.data import Pair, read_pair
from magictailor.methods import recipe_for
from magictailor.recipe import Recipe
from magictailor.training.loop import run_loop
from magictailor.training.run_folder import is_finished
from magictailor.training.setup import build, prepare
from magictailor.training.start import read_start


def make_recipe(backbone: Backbone, method: str = "magictailor", settings: Sequence[str] = ()) -> Recipe:
    """The method's recipe on this base, with its preset's settings and then ``key=value`` settings.

    Raises:
        InputError: unknown method or key, value out of range.
    """
    own = [*backbone.settings, *backbone.runtime.preset.settings]
    return recipe_for(backbone.family, method, [*own, *settings])


def train(
    pair: Pair | Path | str,
    output: Path | str,
    *,
    model: str | Backbone = "embedded",
    method: str | None = None,
    settings: Sequence[str] = (),
    recipe: Recipe | None = None,
    loras: Sequence[str] = (),
    start: Path | str | None = None,
    listen: Listener = ignore,
    **options: Unpack[RuntimeOptions],
) -> Path:
    """Fine-tune on a pair and return the run's folder; see `magictailor.personalize` for arguments and errors."""
    if recipe is not None and (method is not None or settings):
        raise InputError("has no effect next to a recipe", "leave it out", field="method" if method else "settings")
    if isinstance(model, Backbone) and (loras or any(v for v in options.values())):
        name = "loras" if loras else next(k for k, v in options.items() if v)
        raise InputError("has no effect on a backbone that is loaded already", "give it when loading", field=name)
    listen = with_log(listen)
    source = None if isinstance(pair, Pair) or not Path(pair).is_dir() else Path(pair)
    pair = pair if isinstance(pair, Pair) else read_pair(pair)
    folder = output_folder(output, outside=source)
    added = [community_lora(text) for text in loras]
    backbone = load_backbone(model, added, **options) if isinstance(model, str) else model
    if backbone.assumption:
        listen(Notice(backbone.assumption, warning=True))
    started = None if start is None else read_start(start)
    recipe = recipe or make_recipe(backbone, method or "magictailor", settings)
    try:
        with process_group(backbone.device):
            training = build(pair, recipe, backbone, started)
            prepare(training, folder, listen)
            if not is_finished(folder):
                with training.objective.reading_attention():
                    run_loop(training, folder, listen)
    except torch.OutOfMemoryError as error:
        raise RunError(
            "out of memory; the last checkpoint is kept. Start in a new folder with a smaller preset (8gb is the smallest), or "
            "with the settings optimisation.micro_batch=1 and optimisation.checkpointing=true"
        ) from error
    return folder
