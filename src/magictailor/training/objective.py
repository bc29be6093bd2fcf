"""One step: a list of micro-batches, whose samples' losses are gathered before the balance is struck."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from magictailor.backbones.attention import AttentionMaps
from magictailor.backbones.contract import Backbone, Condition
from magictailor.common.errors import InputError
from magictailor.common.processes import process, summed, summed_gradients
from magictailor.recipe import CrossAttention, Phase, Recipe
from magictailor.techniques.attention import attention_error
from magictailor.techniques.balancing import diffusion_weights, preserve_weights, sample_means, worst
from magictailor.techniques.diffusion import context_mask, masked_error
from magictailor.training.examples import Example, Examples
from magictailor.training.inputs import Batch, Inputs
from magictailor.training.momentum import Momentum

TERMS = ("loss", "attention", "preserve", "region", "prior")


@dataclass
class Outcome:
    """What a micro-batch gave: for each row its diffusion, attention and region loss, and the prediction."""

    batch: Batch
    condition: Condition
    prediction: Tensor
    diffusion: Tensor
    attention: Tensor | None
    region: Tensor | None


class Prompts:
    """A step's prompts, encoded once; micro-batches take ``read``, where their gradients gather for `backward`.

    Where the encoders wait off the card, they encode a second time to go back, so that they need not stay in between.
    """

    def __init__(self, backbone: Backbone, encode: Callable[[], Condition]) -> None:
        self._backbone, self._encode, self._again = backbone, encode, backbone.place.preset.offload
        with torch.set_grad_enabled(not self._again):
            self._encoded = encode()
        self.read = self._encoded.leaf()

    def backward(self) -> None:
        with self._backbone.present("text"):
            encoded = self._encode() if self._again else self._encoded
            encoded.backward(self.read)


class Objective:
    """The recipe's loss of a step on one pair."""

    def __init__(
        self,
        backbone: Backbone,
        examples: Examples,
        recipe: Recipe,
        parameters: Sequence[nn.Parameter],
        scaled: Callable[[Tensor], Tensor] = lambda loss: loss,
    ) -> None:
        """``scaled``: what of a loss is back-propagated, for gradients that half precision would lose."""
        self.scaled = scaled
        self.backbone, self.examples, self.recipe, self.parameters = backbone, examples, recipe, parameters
        self.inputs = Inputs(backbone, examples, recipe)
        self.words = list(examples.naming.words)
        self.samples = [p.sample for p in examples.pictures]
        self.count = max(self.samples) + 1
        self.maps = self._read_maps([phase.attention for phase in recipe.phases if phase.attention])
        self._refuse_a_word_cut_off()
        areas = torch.stack([p.mask.mean() for p in examples.pictures])
        self.area = float(sample_means(areas, self.samples, self.count).mean())

    def _read_maps(self, terms: Sequence[CrossAttention]) -> AttentionMaps | None:
        if not terms:
            return None
        up_alone = all(term.blocks == "up" for term in terms)
        return AttentionMaps(self.backbone.denoiser, self.backbone.attention_layers(up_alone))

    @torch.no_grad()
    def _refuse_a_word_cut_off(self) -> None:
        prompts = self.examples.all_prompts()
        for prompt, places in zip(prompts, self.text(prompts).positions, strict=True):
            for word in (w for w in self.words if w in prompt):
                if not all(places[word].values()):
                    raise InputError(f"prompt: {word} lies beyond the text encoder's length; shorten the prompt")

    def prompts(self, step: int) -> list[str]:
        """The step's distinct prompts, each encoded once."""
        rows = self.examples.of(step)
        told = [row.prompt for row in rows] + self.examples.region_prompts(rows, self.recipe.phase(step))
        return list(dict.fromkeys(told))

    def text(self, prompts: Sequence[str]) -> Condition:
        return self.backbone.encode_text(prompts, self.words)

    def _token_weights(self, rows: Sequence[Example], condition: Condition, things: int) -> Tensor:
        """[k, n, L]: for each thing that a row shows, 1 / m at the m places of its word."""
        count, length = condition.sequence.shape[:2]
        weights = torch.zeros(count, things, length, device=condition.sequence.device)
        for i, row in enumerate(rows):
            for n, word in enumerate(row.words):
                places = next(iter(condition.positions[i][word].values()))
                weights[i, n, list(places)] = 1 / len(places)
        return weights

    # --- the losses

    def forward(self, batch: Batch, step: int, text: Condition) -> Outcome:
        """``text``: of each of the step's `prompts`."""
        phase, told = self.recipe.phase(step), self.prompts(step)
        rows = [self.examples.of(step)[i] for i in batch.numbers]
        condition = text.pick([told.index(row.prompt) for row in rows])
        attention = None
        if batch.map_masks is not None and self.maps is not None:
            self.maps.record(self._token_weights(rows, condition, batch.map_masks.shape[1]))
        prediction = self.backbone.predict(batch.noisy, batch.timesteps, condition)
        if batch.map_masks is not None and self.maps is not None and phase.attention is not None:
            attention = self._attention(rows, self.maps.mean(), batch.map_masks, phase.attention)
        mask = context_mask(batch.mask, self.recipe.context)
        diffusion = masked_error(prediction - batch.target, mask, self.recipe.masked)
        region = self._region(
            batch, phase, text.pick([told.index(p) for p in self.examples.region_prompts(rows, phase)])
        )
        return Outcome(batch, condition, prediction, diffusion, attention, region)

    @staticmethod
    def _attention(rows: Sequence[Example], maps: Tensor, masks: Tensor, how: CrossAttention) -> Tensor:
        """The sum over the things that a row shows, [k]."""
        where = [(i, n) for i, row in enumerate(rows) for n in range(len(row.words))]
        if not where:
            return maps.new_zeros(len(rows))
        index = torch.tensor(where, device=maps.device)
        errors = attention_error(maps[index[:, 0], index[:, 1]], masks[index[:, 0], index[:, 1]], how.normalised)
        return errors.new_zeros(len(rows)).index_add(0, index[:, 0], errors)

    def _region(self, batch: Batch, phase: Phase, condition: Condition) -> Tensor | None:
        """CLiC's second look, [k]: the masked picture alone, under the pseudo-word alone."""
        if batch.region is None or phase.region is None:
            return None
        error = self.backbone.predict(batch.region.noisy, batch.timesteps, condition) - batch.region.target
        return masked_error(error, batch.mask, "off" if phase.region.masked == "latents" else "mask")

    @torch.no_grad()
    def _momentum_prediction(self, outcome: Outcome, rows: list[int], momentum: Momentum) -> Tensor:
        """The momentum network's prediction for these rows, with the online text condition."""
        batch, weights = outcome.batch, momentum.weights
        condition = outcome.condition.detach().pick(rows)
        with self.maps.suspended() if self.maps else nullcontext():
            return self.backbone.predict(batch.noisy[rows], batch.timesteps[rows], condition, weights)

    def _preserved(self, outcome: Outcome, share: Tensor, momentum: Momentum) -> Tensor:
        """This micro-batch's part of equation 7: only images with a share have a momentum forward."""
        rows = [r for r in range(len(share)) if share[r] > 0]
        if not rows:
            return share.new_zeros(())
        difference = self._momentum_prediction(outcome, rows, momentum) - outcome.prediction[rows]
        return (masked_error(difference, outcome.batch.mask[rows], self.recipe.masked) * share[rows]).sum()

    def _micro_batches(self) -> list[list[int]]:
        count = self.examples.count
        size = self.recipe.micro_batch or count
        return [list(range(i, min(i + size, count))) for i in range(0, count, size)]

    def _row_losses(self, outcomes: Iterable[Outcome]) -> Tensor:
        """Each row's diffusion loss, over the micro-batches of all processes, [rows], detached."""
        per_row = torch.zeros(self.examples.count, device=self.backbone.device)
        for outcome in outcomes:
            per_row[outcome.batch.numbers] = outcome.diffusion.detach()
        summed(per_row)
        return per_row

    def _sample_losses(self, per_row: Tensor, rows: Sequence[Example]) -> Tensor:
        """L_diff(n), [N]: the mean over the rows that show sample n; not a number where none does."""
        where = [(i, n) for i, row in enumerate(rows) for n in row.samples]
        losses, samples = per_row[[i for i, _ in where]], [n for _, n in where]
        return sample_means(losses, samples, self.count)

    def backward(self, step: int, momentum: Momentum | None) -> dict[str, float]:
        """Set the step's gradients; returns its losses. Equations 3 and 8.

        A selection needs all losses first. A process that has one micro-batch keeps its graph until they are
        known; with several they are measured without gradients, and each runs again on the same random numbers.
        """
        try:
            totals, per_row = self._backward(step, momentum)
        finally:
            if self.maps is not None:
                self.maps.stop()
        summed(totals)
        summed_gradients(self.parameters)
        phase, recipe = self.recipe.phase(step), self.recipe
        losses = self._sample_losses(per_row, self.examples.of(step))
        figures = dict(zip(TERMS, totals.tolist(), strict=True))
        absent = [term for term, how in (("region", phase.region), ("prior", recipe.prior)) if how is None]
        figures = {k: v for k, v in figures.items() if k not in absent}
        figures |= {f"diffusion.{n}": float(v) for n, v in enumerate(losses) if self.examples.whole or math.isfinite(v)}
        return figures | ({"worst": float(worst(losses))} if phase.reduce == "max" else {})

    def _backward(self, step: int, momentum: Momentum | None) -> tuple[Tensor, Tensor]:
        """This process's part of `TERMS`, and the diffusion loss of all rows."""
        phase, rows = self.recipe.phase(step), self.examples.of(step)
        number, processes = process()
        parts = self._micro_batches()
        with self.backbone.present("vae"):
            batches = [self.inputs.batch(step, [rows[i] for i in part], phase) for part in parts[number::processes]]
        told = self.prompts(step)
        prompts = Prompts(self.backbone, lambda: self.text(told))
        outcomes: Iterable[Outcome] = (self.forward(batch, step, prompts.read) for batch in batches)
        known = torch.zeros(self.count, device=self.backbone.device)  # where nothing is selected, none is asked for
        if len(parts) <= processes:
            outcomes = list(outcomes)
            known = self._sample_losses(self._row_losses(outcomes), rows)
        elif phase.selects:
            with torch.no_grad():
                measured = self._row_losses(self.forward(batch, step, prompts.read) for batch in batches)
                known = self._sample_losses(measured, rows)
        totals = torch.zeros(len(TERMS), device=self.backbone.device)

        def back_propagated(outcome: Outcome) -> Outcome:
            here = [rows[i] for i in outcome.batch.numbers]
            totals.add_(self._backpropagate(outcome, here, known, phase, momentum))
            return outcome

        losses = self._row_losses(map(back_propagated, outcomes))
        prompts.backward()
        return totals, losses

    def _shares(self, rows: Sequence[Example], weights: Tensor) -> Tensor:
        """How much each row counts, [k]: of the whole pair its sample's weight over the sample's number of images; of
        drawn pictures all the same; prior pictures nothing."""
        if not self.examples.whole:
            return weights.new_tensor([0.0 if row.prior else 1 / self.examples.images for row in rows])
        counts = [self.samples.count(n) for n in range(self.count)]
        zero = weights.new_zeros(())
        return torch.stack([zero if r.prior else weights[r.samples[0]] / counts[r.samples[0]] for r in rows])

    def _backpropagate(
        self, outcome: Outcome, rows: Sequence[Example], losses: Tensor, phase: Phase, momentum: Momentum | None
    ) -> Tensor:
        """Back-propagate this micro-batch's part of the loss; its part of `TERMS`."""
        attention = preserve = region = prior = losses.new_zeros(())
        total = (outcome.diffusion * self._shares(rows, diffusion_weights(losses, phase.reduce))).sum()
        even = self._shares(rows, torch.full_like(losses, 1 / self.count))
        if outcome.attention is not None and phase.attention is not None:
            attention = (outcome.attention * even).sum()
            area = self.area if self.recipe.masked == "mask" else 1.0
            total = total + phase.attention.weight / area * attention
        if outcome.region is not None and phase.region is not None:
            region = (outcome.region * even).sum()
            total = total + phase.region.weight * region
        if self.recipe.prior is not None:
            prior = outcome.diffusion[[row.prior is not None for row in rows]].sum() / self.examples.images
            total = total + self.recipe.prior.weight * prior
        if phase.preserve is not None and momentum is not None:
            preserve = self._preserved(outcome, self._shares(rows, preserve_weights(losses)), momentum)
            total = total + phase.preserve.weight * preserve
        self.scaled(total).backward()  # type: ignore[no-untyped-call]
        return torch.stack([total, attention, preserve, region, prior]).detach()
