"""The training loop: one step, then whatever is due - metrics, a preview, a checkpoint."""

import math
import time
from pathlib import Path

import torch

from magictailor.backbones.sampling import SamplingOptions, sample
from magictailor.common.distributed import is_main_process
from magictailor.common.errors import RunError, RunStopped
from magictailor.common.events import CheckpointSaved, Done, Listener, Notice, PhaseStarted, PreviewSaved, Progress
from magictailor.common.pictures import save_png
from magictailor.recipe import Recipe
from magictailor.training.checkpoint import keep_checkpoint, save_result
from magictailor.training.memory import peak_memory_gb, reset_peak_memory
from magictailor.training.metrics import MetricsLog
from magictailor.training.momentum import Momentum
from magictailor.training.requests import take_requests
from magictailor.training.run_folder import update_run
from magictailor.training.setup import Training
from magictailor.training.step import train_step

SAVE_SECONDS = 15.0  # a kill loses less than 20 seconds of work
SAVE_SHARE = 10.0  # but where a checkpoint is a whole model, writing it takes no more than a tenth of the time
MOST_IMAGES = 6  # by which the rate is multiplied: the paper's pairs have six; see docs/experiments/component-sets.md


def learning_rate(recipe: Recipe, step: int, images: int) -> float:
    """The phase's rate times the recipe's scale, and times ``images`` if so set (the paper's appendix).

    Beyond the paper's six images the rate stays: at twelve times the phase's, the embedded base falls apart.
    """
    number = recipe.phase_at(step)
    if recipe.quirks.lr_returns and number > 0 and recipe.phase_at(step - 1) == number:
        number = 0
    phase = recipe.phases[number]
    per_image = (
        phase.lr_per_image and recipe.optimisation.optimizer == "adamw"
    )  # prodigy finds the rate of the whole step
    return recipe.optimisation.lr_scale * phase.lr * (min(images, MOST_IMAGES) if per_image else 1)


def advance(training: Training) -> dict[str, float]:
    """One step: gradients, clipping, optimizer, momentum network; returns the step's metrics.

    In fp16 a gradient may overflow: the scaler then leaves the step out and scales losses less from there on.

    Raises:
        RunError: a loss or gradient that is not finite; nothing has changed.
    """
    state, recipe, trained = training.state, training.recipe, training.trained
    phase, online = recipe.phase(state.step), trained.online
    trained.begin(phase)
    if phase.new_optimizer and state.step == recipe.first_step(recipe.phase_at(state.step)):
        state.optimizer.state.clear()
    if state.momentum is None and phase.preserve is not None:  # the end of the warm-up
        state.momentum = Momentum(online, recipe.quirks.hard_momentum_start)
    losses = train_step(training.objective, state.step, state.momentum)
    state.scaler.unscale_(state.optimizer)
    parameters = trained.parameters()
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    clipped = list(online.values()) if recipe.quirks.clip_skips_words else parameters
    if recipe.optimisation.max_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(clipped, recipe.optimisation.max_grad_norm)
    metrics = training.objective.to_numbers(phase, losses | {"gradient_norm": norm})
    must_be_finite = {k: v for k, v in metrics.items() if k != "gradient_norm" or not state.scaler.is_enabled()}
    if not all(math.isfinite(v) for v in must_be_finite.values()):
        raise RunError(
            f"step {state.step}: the loss or its gradient is not finite; the checkpoint before it is kept. "
            "Start in a new folder with a lower learning rate (the setting phases.0.lr)"
        )
    lr = learning_rate(recipe, state.step, training.examples.pair_rows)
    for group in state.optimizer.param_groups:
        group["lr"] = lr * group["scale"]
    if state.momentum is not None and phase.preserve is not None:
        state.momentum.before_step(online, phase.preserve)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.momentum is not None and phase.preserve is not None:
        state.momentum.after_step(online, phase.preserve)
    state.step += 1
    return {k: v for k, v in metrics.items() if math.isfinite(v)} | {"lr": lr}  # JSON knows no infinity


def preview(training: Training, folder: Path) -> PreviewSaved:
    """Generate the composite and each sample alone at fixed seeds: `previews/000100-0.png` and so on."""
    recipe, step, prompts = training.recipe, training.state.step, training.examples.preview_prompts()
    sampling, seeds = recipe.sampling, [recipe.seed] * len(prompts)
    options = SamplingOptions(sampling.steps, sampling.guidance, emphasis=sampling.emphasis)
    without = [training.examples.naming.without_components(prompt) for prompt in prompts]
    images = sample(training.backbone, prompts, seeds, options, without=without)
    files = []
    for number, (image, prompt) in enumerate(zip(list(images), prompts, strict=True)):
        files.append(folder / "previews" / f"{step:06d}-{number}.png")
        save_png(image, files[-1], {"prompt": prompt, "seed": str(recipe.seed), "step": str(step)})
    return PreviewSaved(step, tuple(files))


def run_loop(training: Training, folder: Path, listen: Listener) -> None:
    """All steps that are left, then the result. Of several processes each takes all steps, and the first one writes.

    Raises:
        RunError: a loss that is not finite, or a full disk; the last checkpoint is kept.
        RunStopped: another process asked for it; a checkpoint has been written.
    """
    backbone, recipe, state, writes = training.backbone, training.recipe, training.state, is_main_process()
    reset_peak_memory(backbone.device)
    if training.expected_gb is not None and backbone.device.type != "cpu":
        listen(Notice(f"expected memory: {training.expected_gb:.1f} GB and CUDA's own (preset {training.info.preset})"))

    def save() -> None:
        metrics.flush()
        state.save(folder)
        listen(CheckpointSaved(state.step))

    metrics = MetricsLog(folder, state.step)
    take_requests(folder)  # those of an earlier process
    every, keep_every, phase = recipe.sampling.preview_every, recipe.sampling.keep_every, -1
    if state.step == 0 and writes:
        save()
        if every:
            listen(preview(training, folder))
    while state.step < recipe.steps:
        if (number := recipe.phase_at(state.step)) != phase:
            phase = number
            listen(PhaseStarted(phase, len(recipe.phases), state.step))
        started = time.monotonic()
        measured = advance(training)
        state.seconds += time.monotonic() - started
        asked = take_requests(folder) if writes else set()
        if not writes:
            continue
        metrics.add(state.step - 1, measured)
        listen(Progress("training", state.step, recipe.steps, measured))
        ended = state.step == recipe.steps
        if "preview" in asked or (every and (state.step % every == 0 or ended)):
            listen(preview(training, folder))
        due = time.monotonic() - state.saved_at > max(SAVE_SECONDS, SAVE_SHARE * state.save_seconds)
        if due or ended or asked & {"checkpoint", "stop"}:
            save()
        kept = "checkpoint" in asked or (keep_every and state.step % keep_every == 0)
        if kept and not ended:
            keep_checkpoint(folder, training.info, state, backbone)
        if "stop" in asked and not ended:
            raise RunStopped(
                f"stopped after step {state.step} of {recipe.steps}, as another process asked; run the same command to resume"
            )
    if writes:
        _finish(training, folder, listen)


def _finish(training: Training, folder: Path, listen: Listener) -> None:
    save_result(folder, training.backbone, training.trained)
    peak, state = peak_memory_gb(training.backbone.device), training.state
    if peak is not None:
        listen(Notice(f"peak memory: {peak:.1f} GB"))
    rounded = None if peak is None else round(peak, 2)
    update_run(folder, seconds=round(state.seconds, 1), peak_gb=rounded, finished=True)
    listen(Done(folder))
