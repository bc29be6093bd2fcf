"""The recipe's loss on one pair: what a training step is made of."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from magictailor.backbones import Backbone, Condition
from magictailor.backbones.conditions import cut_off
from magictailor.common.tensors import to_device
from magictailor.recipe import Phase, Recipe
from magictailor.techniques.attention import attention_error
from magictailor.techniques.balancing import sample_means
from magictailor.techniques.diffusion import context_mask, masked_error
from magictailor.training.batch import Batch, BatchMaker
from magictailor.training.memory import MOST_AT_ONCE
from magictailor.training.momentum import Momentum
from magictailor.training.rows import Examples, Row

IN_ENCODERS = {"pseudo-words", "embedding-matrix", "text-encoder"}  # trainables
TERMS = ("loss", "attention", "preserve", "region", "prior")


@dataclass(frozen=True)
class ForwardPass:
    """A forward pass of k rows.

    prediction: [k, C, h, w]. diffusion, attention, region: each row's losses, [k]; zeros where the phase has no such term.
    """

    condition: Condition
    prediction: Tensor
    diffusion: Tensor
    attention: Tensor
    region: Tensor


class EncodedPrompts:
    """A step's prompts, encoded once; forward passes take `pick`, and `backward` propagates their gradients.

    Encoders that a preset offloads run a second time for the backward pass, so that they need not stay on the card.
    """

    def __init__(self, backbone: Backbone, prompts: Sequence[str], words: Sequence[str], learned: bool) -> None:
        """``learned``: whether anything in the encoders is."""
        self._backbone, self._prompts, self._words = backbone, list(dict.fromkeys(prompts)), words
        self._learned, self._runs_again = learned, learned and backbone.runtime.preset.offload
        with torch.set_grad_enabled(learned and not self._runs_again):
            self._encoded = self._encode()
        self._leaf = self._encoded.leaf(learned)

    def _encode(self) -> Condition:
        return self._backbone.encode_text(self._prompts, self._words)

    def pick(self, prompts: Sequence[str]) -> Condition:
        return self._leaf.pick([self._prompts.index(prompt) for prompt in prompts])

    def backward(self) -> None:
        if not self._learned:
            return
        with self._backbone.on_device("text"):
            encoded = self._encode() if self._runs_again else self._encoded
            encoded.backward(self._leaf)


class Objective:
    """Forward passes, the weight of each row, and the terms of the loss.

    Args:
        parameters: everything that is trained.
        scale_loss: is applied to the loss before the backward pass; unscaled, fp16 would lose small gradients.
    """

    def __init__(
        self,
        backbone: Backbone,
        examples: Examples,
        recipe: Recipe,
        parameters: Sequence[nn.Parameter],
        scale_loss: Callable[[Tensor], Tensor] = lambda loss: loss,
    ) -> None:
        self.backbone, self.examples, self.recipe, self.parameters = backbone, examples, recipe, parameters
        self.scale_loss = scale_loss
        self.maker = BatchMaker(backbone, recipe)
        self.words = list(examples.naming.words)
        self.samples = examples.samples
        self.sample_count = max(self.samples) + 1
        self._check_spans()
        areas = torch.stack([image.mask.mean() for image in examples.images])
        mean_area = float(sample_means(areas, self.samples, self.sample_count).mean())
        self.mean_area = mean_area if recipe.loss.masked == "mask" else 1.0  # equation 2's weight is for a full mask

    def reading_attention(self) -> AbstractContextManager[None]:
        """Inside, `forward` can compute the attention loss, if the recipe has one."""
        term = self.recipe.attention
        return nullcontext() if term is None else self.backbone.reading_attention(term.blocks, term.over)

    @torch.no_grad()
    def _check_spans(self) -> None:
        """Raises InputError where a prompt is so long that the text encoder cuts off a pseudo-word."""
        prompts = self.examples.all_prompts()
        spans = self.backbone.encode_text(prompts, self.words).spans
        for prompt, own in zip(prompts, spans, strict=True):
            for word in (w for w in self.words if w in prompt):
                if not own[word]:
                    raise cut_off(word, "shorten the training prompt: the settings prompts.*, or the label")

    def micro_batches(self, count: int) -> list[list[int]]:
        """The rows of each forward pass. They alternate, so that a pass has rows of all samples if it can."""
        passes = -(-count // (self.recipe.optimisation.micro_batch or min(count, MOST_AT_ONCE)))
        return [list(range(i, count, passes)) for i in range(passes)]

    def encode_prompts(self, rows: Sequence[Row]) -> EncodedPrompts:
        prompts = [row.prompt for row in rows] + [row.region_prompt for row in rows if row.region_prompt]
        return EncodedPrompts(self.backbone, prompts, self.words, bool(self.recipe.kinds & IN_ENCODERS))

    def forward(self, batch: Batch, text: EncodedPrompts, phase: Phase) -> ForwardPass:
        """Without gradients, the attention maps are left out: only the diffusion losses are wanted then."""
        condition = text.pick([row.prompt for row in batch.rows])
        attend = [row.words for row in batch.rows] if phase.attention and torch.is_grad_enabled() else None
        prediction = self.backbone.predict(batch.noisy, batch.times, condition, attend=attend)
        mask = context_mask(batch.mask, self.recipe.loss.context_mask)
        diffusion = masked_error(prediction.output - batch.target, mask, self.recipe.loss.masked)
        attention = region = torch.zeros_like(diffusion)
        if prediction.attention is not None and batch.map_masks is not None and phase.attention is not None:
            attention = _attention_losses(batch, prediction.attention, batch.map_masks, phase.attention.normalised)
            low, high = phase.attention.noise
            level = self.backbone.noise_level(batch.times)
            attention = attention * ((level >= low) & (level <= high))
        if batch.region is not None and phase.region is not None:
            alone = text.pick([row.region_prompt for row in batch.rows])
            error = self.backbone.predict(batch.region.noisy, batch.times, alone).output - batch.region.target
            region = masked_error(error, batch.mask, "off" if phase.region.masked == "latents" else "mask")
        return ForwardPass(condition, prediction.output, diffusion, attention, region)

    def sample_losses(self, diffusion: Tensor, rows: Sequence[Row]) -> Tensor:
        """L_diff(n), [N]: the mean over the rows that show sample n; not a number where none does."""
        shown = [(row.number, sample) for row in rows for sample in row.samples]
        return sample_means(diffusion[[i for i, _ in shown]], [n for _, n in shown], self.sample_count)

    def row_weights(self, rows: Sequence[Row], weights: Tensor) -> Tensor:
        """The weight of each row in the loss, [k].

        Of the whole pair: its sample's weight, divided by the sample's number of images. Of images drawn at random: the
        same for all. Prior images: zero.
        """
        if not self.examples.whole_pair:
            return weights.new_tensor([0.0 if row.prior else 1 / self.examples.pair_rows for row in rows])
        zero = weights.new_zeros(())
        of_row = [None if row.prior else row.samples[0] for row in rows]
        return torch.stack([zero if n is None else weights[n] / self.samples.count(n) for n in of_row])

    @torch.no_grad()
    def _momentum_prediction(self, batch: Batch, forward: ForwardPass, rows: Tensor, momentum: Momentum) -> Tensor:
        """The momentum network's prediction of these rows, with the online text condition."""
        condition = forward.condition.select(rows)
        return self.backbone.predict(batch.noisy[rows], batch.times[rows], condition, weights=momentum.weights).output

    def preserve_loss(self, batch: Batch, forward: ForwardPass, weights: Tensor, momentum: Momentum) -> Tensor:
        """Equation 7 on a batch's rows, whose ``weights`` [k] are zero for those of the worst sample.

        Those need no momentum prediction. As many rows are left out as any sample has, so that the number does not
        depend on which sample is the worst, and nothing has to be read back from the card.
        """
        samples = [n for row in batch.rows for n in row.samples]
        kept = len(samples) - min(samples.count(n) for n in range(self.sample_count))
        if kept == 0:
            return weights.new_zeros(())
        rows = torch.argsort((weights == 0).int(), stable=True)[:kept].sort().values
        difference = self._momentum_prediction(batch, forward, rows, momentum) - forward.prediction[rows]
        return (masked_error(difference, batch.mask[rows], self.recipe.loss.masked) * weights[rows]).sum()

    def by_name(self, phase: Phase, terms: Tensor, losses: Tensor) -> dict[str, Tensor]:
        """`TERMS` that the recipe has, and each sample's diffusion loss, by name; on the device."""
        named = dict(zip(TERMS, terms.unbind()))
        absent = [name for name, term in (("region", phase.region), ("prior", self.recipe.loss.prior)) if term is None]
        named = {k: v for k, v in named.items() if k not in absent}
        return named | {f"diffusion.{n}": loss for n, loss in enumerate(losses.unbind())}

    def to_numbers(self, phase: Phase, named: Mapping[str, Tensor]) -> dict[str, float]:
        """The metrics as numbers; the only values of a step that are copied from the card.

        A sample that the step did not show has no loss. ``worst``: the sample of equation 6.
        """
        values = dict(zip(named, torch.stack(list(named.values())).tolist()))
        losses = {k: v for k, v in values.items() if k.startswith("diffusion.")}
        if not self.examples.whole_pair:
            values = {k: v for k, v in values.items() if k not in losses or math.isfinite(v)}
        if phase.reduce == "max":
            values["worst"] = float(max(range(len(losses)), key=lambda n: losses[f"diffusion.{n}"]))
        return values


def _attention_losses(batch: Batch, maps: Tensor, masks: Tensor, normalised: bool) -> Tensor:
    """Equation 2, the sum over a row's subjects, [k]. ``maps`` and ``masks`` [k, n, h, w]."""
    shown = [(i, n) for i, row in enumerate(batch.rows) for n in range(len(row.words))]
    if not shown:
        return maps.new_zeros(len(batch.rows))
    rows, subjects = to_device(torch.tensor(shown), maps.device).T
    errors = attention_error(maps[rows, subjects], masks[rows, subjects], normalised)
    return errors.new_zeros(len(batch.rows)).index_add(0, rows, errors)
