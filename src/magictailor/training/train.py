"""Training as one function: from a pair, a base and a recipe to a finished run's folder."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch

from magictailor.backbones import Backbone
from magictailor.common.distributed import all_succeed, is_main_process, process_group
from magictailor.common.errors import InputError, RunError
from magictailor.common.events import Listener, Notice, ignore, with_log
from magictailor.common.files import remove_temporaries
from magictailor.common.locks import only_process
from magictailor.data import Pair
from magictailor.methods import recipe_for
from magictailor.recipe import Recipe
from magictailor.training.loop import run_loop
from magictailor.training.run_folder import is_finished
from magictailor.training.setup import build, prepare
from magictailor.training.start import Start


@contextmanager
def _alone_in(folder: Path, device: torch.device) -> Iterator[None]:
    """Inside, no other training works in the folder. Of a launcher's processes the first one locks it for all.

    Raises:
        InputError: another one does; in all processes.
    """
    with ExitStack() as stack:
        refused: InputError | None = None
        existed = folder.exists()
        if is_main_process():
            try:
                stack.enter_context(only_process(folder))
                remove_temporaries(folder)
            except InputError as error:
                refused = error
        if not all_succeed(refused is None, device):
            raise refused or InputError(
                f"{folder}: another process is working in it",
                "wait until it ends, or choose another folder",
                field="output",
            )
        try:
            yield
        except InputError:
            if is_main_process() and not existed:
                with suppress(OSError):  # a refusal leaves no empty folder
                    folder.rmdir()
            raise


def make_recipe(backbone: Backbone, method: str = "magictailor", settings: Sequence[str] = ()) -> Recipe:
    """The method's recipe on this base, with its preset's settings and then ``key=value`` settings.

    Raises:
        InputError: unknown method or key, value out of range.
    """
    own = [*backbone.settings, *backbone.runtime.preset.settings]
    return recipe_for(backbone.family, method, [*own, *settings])


def train(
    pair: Pair,
    output: Path,
    backbone: Backbone,
    recipe: Recipe,
    *,
    start: Start | None = None,
    listen: Listener = ignore,
) -> Path:
    """Build the run, prepare its folder, and take all steps that are left; `magictailor.personalize` has the errors.

    Args:
        output: from `output_folder`.
        backbone: nothing was added to it.
    """
    listen = with_log(listen)
    if backbone.assumption:
        listen(Notice(backbone.assumption, warning=True))
    try:
        with process_group(backbone.device):
            training = build(pair, recipe, backbone, start)
            with _alone_in(output, backbone.device):
                prepare(training, output, listen)
                if not is_finished(output):
                    with training.objective.reading_attention():
                        run_loop(training, output, listen)
    except torch.OutOfMemoryError as error:
        raise RunError(
            "out of memory; the last checkpoint is kept. Start in a new folder with a smaller preset (8gb is the smallest), or "
            "with the settings optimisation.micro_batch=1 and optimisation.checkpointing=true"
        ) from error
    return output
