"""One training step: from rows to gradients, by the paper's equations."""

import torch
from torch import Tensor

from magictailor.common.distributed import all_reduce, all_reduce_gradients, rank_and_world_size
from magictailor.techniques.balancing import diffusion_weights, preserve_weights
from magictailor.training.momentum import Momentum
from magictailor.training.objective import TERMS, Objective


def train_step(objective: Objective, step: int, momentum: Momentum | None) -> dict[str, Tensor]:
    """Set the gradients of step ``step``; returns its losses by name, on the device.

    DS-Bal needs the losses of all samples before any gradient. A process with one micro-batch keeps its graph until
    then. With several, all are measured without gradients first, and run a second time on the same random numbers.
    """
    recipe, examples, backbone = objective.recipe, objective.examples, objective.backbone
    phase, rows, times = recipe.phase(step), examples.rows(step), examples.times(step)
    micro_batches, (rank, world_size) = objective.micro_batches(len(rows)), rank_and_world_size()
    with backbone.on_device("vae"):  # equations 4 and 5
        batches = [
            objective.maker.batch([rows[i] for i in numbers], times[numbers], phase)
            for numbers in micro_batches[rank::world_size]
        ]
    text = objective.encode_prompts(rows)

    # Equation 1: the diffusion loss of each image, then of each sample. A phase that does not select needs no sample's.
    diffusion = torch.zeros(len(rows), device=backbone.device)
    keeps_graph = len(micro_batches) <= world_size
    measures_first = keeps_graph or phase.selects
    passes = []
    if measures_first:
        with torch.set_grad_enabled(keeps_graph):
            passes = [objective.forward(batch, text, phase) for batch in batches]
        for batch, forward in zip(batches, passes, strict=True):
            diffusion[batch.numbers] = forward.diffusion.detach()
        all_reduce(diffusion)
    losses = objective.sample_losses(diffusion, rows)

    terms = torch.zeros(len(TERMS), device=backbone.device)
    for i, batch in enumerate(batches):
        forward = passes[i] if keeps_graph else objective.forward(batch, text, phase)
        equal_weights = objective.row_weights(batch.rows, torch.full_like(losses, 1 / len(losses)))
        total = (forward.diffusion * objective.row_weights(batch.rows, diffusion_weights(losses, phase.reduce))).sum()
        attention = region = prior = preserve = losses.new_zeros(())
        if phase.attention is not None:  # equation 2
            attention = (forward.attention * equal_weights).sum()
            total = total + phase.attention.weight / objective.mean_area * attention
        if phase.region is not None:
            region = (forward.region * equal_weights).sum()
            total = total + phase.region.weight * region
        if recipe.loss.prior is not None:
            prior = forward.diffusion[[row.prior is not None for row in batch.rows]].sum() / examples.pair_rows
            total = total + recipe.loss.prior.weight * prior
        if phase.preserve is not None and momentum is not None:  # equation 7
            weights = objective.row_weights(batch.rows, preserve_weights(losses))
            preserve = objective.preserve_loss(batch, forward, weights, momentum)
            total = total + phase.preserve.weight * preserve
        objective.scale_loss(total).backward()  # type: ignore[no-untyped-call]  # equations 3 and 6 with the terms above: equation 8
        terms += torch.stack([total, attention, preserve, region, prior]).detach()
        diffusion[batch.numbers] = forward.diffusion.detach()
    text.backward()

    if not measures_first:
        all_reduce(diffusion)
    all_reduce(terms)
    all_reduce_gradients(objective.parameters)
    return objective.by_name(phase, terms, objective.sample_losses(diffusion, rows))
