"""Building a run in memory, and preparing its folder: nothing is written before all that can be refused is checked."""

from dataclasses import dataclass
from pathlib import Path

import torch

from magictailor.backbones import Backbone
from magictailor.common.distributed import barrier, is_main_process
from magictailor.common.errors import InputError
from magictailor.common.events import Listener
from magictailor.common.pictures import save_png
from magictailor.data import Pair, overview
from magictailor.data.training_images import first_references, training_images
from magictailor.recipe import Recipe
from magictailor.recipe.naming import Naming
from magictailor.training.batch import mask_grids
from magictailor.training.checkpoint import State
from magictailor.training.memory import expected_peak
from magictailor.training.objective import IN_ENCODERS, Objective
from magictailor.training.optimizer import make_optimizer
from magictailor.training.priors import prior_images
from magictailor.training.rows import Examples
from magictailor.training.run_folder import RunInfo, acquire, describe_pair
from magictailor.training.start import Start, start_from
from magictailor.training.trainables import Trainables


@dataclass(frozen=True)
class Training:
    """A run in memory: all that its steps need. ``expected_gb``: of a step on a card, None if not known."""

    pair: Pair
    recipe: Recipe
    backbone: Backbone
    info: RunInfo
    examples: Examples
    objective: Objective
    state: State
    expected_gb: float | None

    @property
    def trained(self) -> Trainables:
        return self.state.trained


def build(pair: Pair, recipe: Recipe, backbone: Backbone, start: Start | None = None) -> Training:
    """A run at step 0. Adds words and LoRA to the backbone and writes nothing.

    Raises:
        InputError: anything about pair, recipe, backbone and start that does not fit together.
    """
    runtime, config = backbone.runtime, recipe.optimisation
    words = {sample.word: sample.label for sample in pair.samples}
    naming = Naming(recipe, words)
    if recipe.data.size is not None:
        backbone.use_size(recipe.data.size)
    images = training_images(
        first_references(pair, recipe.data.references), backbone.size, mask_grids(backbone, recipe)
    )
    if recipe.sampling.emphasis:
        backbone.check_emphasis(recipe.sampling.guidance)
        if len(words) < 2:
            raise InputError(
                "the pair has no component to emphasise", "add a component, or choose another method", field="method"
            )
    if config.checkpointing:
        backbone.enable_checkpointing()
    vectors = backbone.add_words(naming.initial_texts())
    digests = [r.digest for sample in pair.samples for r in sample.references]
    examples = Examples(images, recipe, naming, digests)
    trained = Trainables(backbone, recipe, vectors, examples.seed)
    if start is not None:
        start_from(start, trained, backbone, recipe.lora_scale)
    scaler = torch.amp.GradScaler(backbone.device.type, enabled=runtime.dtype == torch.float16)
    objective = Objective(backbone, examples, recipe, trained.parameters(), scaler.scale)
    optimizer = make_optimizer(trained.groups(), config)
    if runtime.compiled:
        backbone.compile()
    if recipe.kinds.isdisjoint(IN_ENCODERS):  # every prompt that the run needs, and nothing after
        with torch.no_grad():
            backbone.encode_text(examples.every_text())
        backbone.release_text()
    info = RunInfo(
        backbone.name,
        backbone.digest_as_loaded or None,
        describe_pair(pair),
        recipe,
        backbone.loras,
        start.sha256 if start else None,
        runtime.precision,
        runtime.preset.name,
    )
    expected = expected_peak(backbone, recipe, trained, examples.row_count)
    return Training(pair, recipe, backbone, info, examples, objective, State(trained, optimizer, scaler), expected)


def prepare(training: Training, folder: Path, listen: Listener) -> None:
    """Acquire the folder, generate prior images, and restore the last checkpoint.

    Raises:
        InputError: the folder holds another run, or other files.
    """
    acquire(folder, training.info)
    if is_main_process():
        save_png(overview(training.pair), folder / "pair.png")
    barrier()  # until the folder is acquired
    if training.recipe.loss.prior is not None:  # before a checkpoint is read: the untrained base generates them
        prompts = [training.examples.prior_prompt(word) for word in training.info.words]
        training.examples.use_priors(prior_images(training.backbone, training.recipe, prompts, listen))
    training.state.restore(folder)
