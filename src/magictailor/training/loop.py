"""The one loop: status, preview, checkpoint, one step."""

import difflib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Unpack

import torch

from magictailor.backbones import Backbone, community_lora, load_backbone
from magictailor.backbones.placement import Where
from magictailor.backbones.sampling import sample
from magictailor.common.errors import InputError, RunError
from magictailor.common.files import output_folder
from magictailor.common.pictures import save_png
from magictailor.common.processes import first, joined, wait
from magictailor.common.randomness import pair_seed
from magictailor.data import Pair, overview, read_pair
from magictailor.data.batches import pictures, with_references
from magictailor.methods import COMPARED, METHODS
from magictailor.recipe import Recipe, with_settings
from magictailor.recipe.naming import Naming
from magictailor.training.checkpoint import (
    STATE_FILE,
    RunInfo,
    State,
    claim,
    describe_pair,
    finished,
    note,
    read_state,
    save_result,
)
from magictailor.training.examples import Examples
from magictailor.training.memory import expected_peak, forget_peak, seen_peak
from magictailor.training.metrics import Metrics
from magictailor.training.momentum import Momentum
from magictailor.training.objective import Objective
from magictailor.training.priors import Draws, prior_pictures
from magictailor.training.start import Start, begin_from, read_start
from magictailor.training.trainables import Trainables

SAVE_SECONDS = 15.0  # a kill loses less than 20 seconds of work
SAVE_SHARE = 10.0  # but where a checkpoint is a whole model, writing it takes no more than a tenth of the time
Watch = Callable[[int, int, dict[str, float]], None]


def recipe_for(backbone: Backbone, method: str = "magictailor", settings: list[str] | None = None) -> Recipe:
    """The method's recipe on this base, as its preset has it, with ``key=value`` settings.

    Raises:
        InputError: unknown method or key, value out of range.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, 1, 0.3) or ["magictailor"]
        raise InputError(
            f"--method {method}: unknown; the nearest is {near[0]}; the methods are {', '.join(COMPARED)} "
            "(magictailor recipes lists variants and ablations as well)"
        )
    return with_settings(METHODS[method](backbone.defaults), [*backbone.place.preset.settings, *(settings or [])])


def learning_rate(recipe: Recipe, step: int, images: int) -> float:
    """The phase's rate, times the recipe's factor, and times the images if so set (the appendix of the paper)."""
    number = recipe.phase_at(step)
    first_of_phase = number > 0 and recipe.phase_at(step - 1) < number
    if recipe.reference.rate_returns and number > 0 and not first_of_phase:
        number = 0
    phase = recipe.phases[number]
    return recipe.rate_factor * phase.lr * (images if phase.lr_per_image else 1)


class Run:
    """A run in its folder: made anew, or as its last checkpoint left it."""

    def __init__(
        self,
        pair: Pair,
        folder: Path,
        recipe: Recipe,
        backbone: Backbone,
        start: Start | None = None,
        draws: Draws = lambda done, total: None,
    ) -> None:
        """``draws``: told of each prior picture that is drawn."""
        self.folder, self.recipe, self.backbone = folder, recipe, backbone
        sides = [backbone.latent_shape(backbone.size, backbone.size)[-1]]
        sides += [backbone.map_side] * any(phase.attention for phase in recipe.phases)
        shown = pictures(with_references(pair, recipe.references), backbone.size, min(sides))
        begun = start.sha256 if start else None
        place = backbone.place
        how = (begun, place.precision, place.preset.name)
        self.info = RunInfo(backbone.name, describe_pair(pair), recipe, backbone.loras, *how)
        if recipe.checkpointing:
            backbone.enable_checkpointing()
        self.naming = Naming(recipe, self.info.words)
        starts = backbone.add_words(self.naming.starts())
        digests = [r.digest for sample in pair.samples for r in sample.references]
        self.trained = Trainables(backbone, recipe, starts, pair_seed(recipe.seed, digests))
        if start is not None:
            begin_from(start, self.trained, backbone, recipe.lora_scale)
        scaler = torch.amp.GradScaler(backbone.device.type, enabled=place.dtype == torch.float16)
        self.examples = Examples(shown, recipe, self.naming, digests)
        self.objective = Objective(backbone, self.examples, recipe, self.trained.parameters(), scaler.scale)
        optimizer = torch.optim.AdamW(
            self.trained.groups(), lr=0.0, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
        )
        if place.compiled:
            backbone.compile()
        self.expected = expected_peak(backbone, recipe, self.trained, self.examples.count)
        claim(folder, self.info)  # here, after all that can be refused: bad input writes nothing
        if first():
            save_png(overview(pair), folder / "pair.png")
        wait()  # until the folder is claimed
        if recipe.prior is not None:  # before a checkpoint is read: the base draws them, not what was trained
            prompts = [self.examples.prior_prompt(word) for word in self.info.words]
            self.examples.with_priors(prior_pictures(backbone, recipe, prompts, draws))
        if (folder / STATE_FILE).exists():
            self.state = read_state(folder, self.trained, optimizer, scaler)
        else:
            self.state = State(self.trained, optimizer, scaler, saved_at=time.monotonic())
        self.metrics = Metrics(folder, self.state.step)

    def advance(self) -> dict[str, float]:
        """One step. A loss that is not finite stops the run before the step; the checkpoint stays.

        In fp16 a gradient may overflow: then the scaler leaves the step out and scales losses less from there on.
        """
        state, recipe, online = self.state, self.recipe, self.trained.online
        phase = recipe.phase(state.step)
        preserve = phase.preserve
        self.trained.begin(phase)
        if phase.new_optimizer and state.step == recipe.first_step(recipe.phase_at(state.step)):
            state.optimizer.state.clear()
        if state.momentum is None and preserve is not None:
            state.momentum = Momentum(online, recipe.reference.hard_start)  # started at the end of the warm-up
        figures = self.objective.backward(state.step, state.momentum)
        state.scaler.unscale_(state.optimizer)
        everything = self.trained.parameters()
        figures["gradient_norm"] = float(
            torch.nn.utils.get_total_norm([p.grad for p in everything if p.grad is not None])
        )
        clipped = list(online.values()) if recipe.reference.clip_skips_words else everything
        if recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(clipped, recipe.clip)
        must_be_finite = {k: v for k, v in figures.items() if k != "gradient_norm" or not state.scaler.is_enabled()}
        if not all(math.isfinite(v) for v in must_be_finite.values()):
            raise RunError(
                f"step {state.step}: the loss or its gradient is not finite; the checkpoint before it is kept. "
                "Lower the rate (--set phases.0.lr=...) in a new folder"
            )
        rate = learning_rate(recipe, state.step, self.examples.images)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        if state.momentum is not None and preserve is not None:
            state.momentum.before_step(online, preserve)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        if state.momentum is not None and preserve is not None:
            state.momentum.after_step(online, preserve)
        state.step += 1
        return {k: v for k, v in figures.items() if math.isfinite(v)} | {"lr": rate}  # JSON knows no infinity

    def preview(self) -> None:
        """The composite, and each sample alone, at fixed seeds: `previews/000100-0.png` and so on."""
        alone = [self.naming.prompts(word)[0] for word in self.info.words]
        texts = [self.naming.written(self.naming.composite()), *alone] if len(alone) > 1 else alone
        seeds, batch = [self.recipe.seed] * len(texts), self.backbone.place.preset.pictures
        how = (self.recipe.sampling_steps, self.recipe.guidance, self.backbone.size, batch)
        with self.backbone.drawing():
            images = list(sample(self.backbone.pipeline, texts, seeds, *how))
        for number, (image, text) in enumerate(zip(images, texts, strict=True)):
            path = self.folder / "previews" / f"{self.state.step:06d}-{number}.png"
            save_png(image, path, {"prompt": text, "seed": str(self.recipe.seed), "step": str(self.state.step)})


def personalize(
    pair: Pair | Path | str,
    output: Path | str,
    *,
    model: str | Backbone = "embedded",
    method: str = "magictailor",
    settings: list[str] | None = None,
    recipe: Recipe | None = None,
    loras: Sequence[str] = (),
    start: Path | str | None = None,
    watch: Watch = lambda step, steps, figures: None,
    draws: Draws = lambda done, total: None,
    tell: Callable[[str], None] = lambda line: None,
    **where: Unpack[Where],
) -> Path:
    """Fine-tune on a pair; the same call goes on after any interruption.

    Args:
        pair: a `Pair`, or the path of a folder or TOML file.
        output: the run's folder, new, empty or this run's.
        model: ``embedded``, a diffusers folder, or a backbone that nothing was added to.
        settings: ``key=value`` changes of the method's recipe.
        recipe: instead of ``method``, ``settings`` and what the preset says of micro-batches and checkpointing.
        loras: community LoRAs merged into a model that is given by name, ``FILE`` or ``FILE=STRENGTH``.
        start: a finished run or an exported folder, whose LoRA and pseudo-words the training begins from.
        watch: called after each step with (steps done, all steps, figures).
        draws: called after each prior picture that the base draws for the method, with (drawn, all).
        tell: called with lines for the user: the memory that the run expects to take, and what it took.
        where: of a model that is given by name, see `Where`.

    Returns:
        The run's folder, ready for `load` and `generate`.

    Raises:
        InputError: bad pair, model, recipe or folder; nothing has been written.
        RunError: a loss that is not finite, or a full disk; the last checkpoint is kept.
    """
    source = None if isinstance(pair, Pair) or not Path(pair).is_dir() else Path(pair)
    pair = pair if isinstance(pair, Pair) else read_pair(pair)
    folder = output_folder(output, outside=source)
    added = [community_lora(text) for text in loras]
    backbone = load_backbone(model, added, **where) if isinstance(model, str) else model
    begun = None if start is None else read_start(start)
    try:
        with joined(backbone.device):
            run = Run(pair, folder, recipe or recipe_for(backbone, method, settings), backbone, begun, draws)
            if not finished(folder):
                _train(run, watch, tell)
    except torch.OutOfMemoryError as error:
        raise RunError(
            "out of memory; the last checkpoint is kept. Start in a new folder with a smaller --preset, 8gb the smallest, "
            "or with --set micro_batch=1 --set checkpointing=true"
        ) from error
    return folder


def _train(run: Run, watch: Watch, tell: Callable[[str], None]) -> None:
    """The loop. Of several processes each takes all steps, and the first writes and draws."""
    folder, state, every, writes = run.folder, run.state, run.recipe.preview_every, first()
    forget_peak(run.backbone.device)
    preset = run.backbone.place.preset.name
    if run.expected is not None and run.backbone.device.type != "cpu":
        tell(f"expected to take {run.expected:.1f} GB beside CUDA's own (preset {preset})")
    if state.step == 0 and writes:
        state.save(folder)
        if every:
            run.preview()
    while state.step < run.recipe.steps:
        started = time.monotonic()
        figures = run.advance()
        state.seconds += time.monotonic() - started
        if not writes:
            continue
        run.metrics.add(state.step - 1, figures)
        watch(state.step, run.recipe.steps, figures)
        if every and (state.step % every == 0 or state.step == run.recipe.steps):
            run.preview()
        due = max(SAVE_SECONDS, SAVE_SHARE * state.save_seconds)
        if time.monotonic() - state.saved_at > due or state.step == run.recipe.steps:
            run.metrics.flush()
            state.save(folder)
    if writes:
        save_result(folder, run.backbone, run.trained)
        peak = seen_peak(run.backbone.device)
        if peak is not None:
            tell(f"took {peak:.1f} GB at most")
        note(folder, seconds=round(state.seconds, 1), peak_gb=None if peak is None else round(peak, 2), finished=True)
