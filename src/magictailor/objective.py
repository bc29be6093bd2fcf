"""One step: a list of micro-batches, whose samples' losses are gathered before the balance is struck."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from magictailor.adapters.attention_maps import AttentionMaps
from magictailor.adapters.momentum import Momentum
from magictailor.backbones.contract import Backbone, Condition
from magictailor.data.batches import Picture
from magictailor.errors import InputError
from magictailor.inputs import Batch, Inputs
from magictailor.processes import process, summed, summed_gradients
from magictailor.recipe import Phase, Recipe
from magictailor.techniques.attention import attention_error
from magictailor.techniques.balancing import diffusion_weights, preserve_weights, sample_means, worst
from magictailor.techniques.diffusion import masked_error


@dataclass
class Outcome:
    """What a micro-batch gave: for each image its diffusion and attention loss, and the prediction."""

    batch: Batch
    condition: Condition
    prediction: Tensor
    diffusion: Tensor
    attention: Tensor | None


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
        pictures: Sequence[Picture],
        recipe: Recipe,
        parameters: Sequence[nn.Parameter],
        scaled: Callable[[Tensor], Tensor] = lambda loss: loss,
    ) -> None:
        """``scaled``: what of a loss is back-propagated, for gradients that half precision would lose."""
        self.scaled = scaled
        self.backbone, self.pictures, self.recipe, self.parameters = backbone, pictures, recipe, parameters
        self.inputs = Inputs(backbone, pictures, recipe)
        self.samples = [p.sample for p in pictures]
        self.words = list(dict.fromkeys(p.word for p in pictures))
        self.count = max(self.samples) + 1
        self.counts = [self.samples.count(n) for n in range(self.count)]
        self.maps = None
        if any(phase.attention for phase in recipe.phases):
            self.maps = AttentionMaps(backbone.denoiser, backbone.attention_layers)
        self._refuse_a_word_cut_off()
        areas = torch.stack([p.mask.mean() for p in pictures])
        self.area = float(sample_means(areas, self.samples, self.count).mean())

    @torch.no_grad()
    def _refuse_a_word_cut_off(self) -> None:
        for places, word in zip(self.text().positions, self.words, strict=True):
            if not all(places[word].values()):
                raise InputError(f"prompt: {word} lies beyond the text encoder's length; shorten the prompt")

    def text(self) -> Condition:
        """The step's distinct prompts, one for each word, each encoded once."""
        return self.backbone.encode_text([self.recipe.prompt.format(w) for w in self.words], self.words)

    def _token_weights(self, images: Sequence[int], condition: Condition) -> Tensor:
        """[k, L], 1 / n at the n places of each image's own word."""
        weights = torch.zeros(condition.sequence.shape[:2], device=condition.sequence.device)
        for row, image in enumerate(images):
            places = next(iter(condition.positions[row][self.pictures[image].word].values()))
            weights[row, list(places)] = 1 / len(places)
        return weights

    # --- the losses

    def forward(self, batch: Batch, text: Condition) -> Outcome:
        """``text``: of each word, see `text`."""
        condition = text.pick([self.words.index(self.pictures[i].word) for i in batch.images])
        attention = None
        if batch.map_mask is not None and self.maps is not None:
            self.maps.record(self._token_weights(batch.images, condition))
        prediction = self.backbone.predict(batch.noisy, batch.timesteps, condition)
        if batch.map_mask is not None and self.maps is not None:
            attention = attention_error(self.maps.mean(), batch.map_mask)
        diffusion = masked_error(prediction - batch.target, batch.mask, self.recipe.masked)
        return Outcome(batch, condition, prediction, diffusion, attention)

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
        size = self.recipe.micro_batch or len(self.pictures)
        numbers = list(range(len(self.pictures)))
        return [numbers[i : i + size] for i in range(0, len(numbers), size)]

    def _sample_losses(self, outcomes: Iterable[Outcome]) -> Tensor:
        """L_diff(n) over the micro-batches of all processes, [N], detached."""
        per_image = torch.zeros(len(self.pictures), device=self.backbone.device)
        for outcome in outcomes:
            per_image[outcome.batch.images] = outcome.diffusion.detach()
        summed(per_image)
        return sample_means(per_image, self.samples, self.count)

    def backward(self, step: int, momentum: Momentum | None) -> dict[str, float]:
        """Set the step's gradients; returns its losses. Equations 3 and 8.

        A selection needs all losses first. A process that has one micro-batch keeps its graph until they are
        known; with several they are measured without gradients, and each runs again on the same random numbers.
        """
        try:
            totals, losses = self._backward(step, momentum)
        finally:
            if self.maps is not None:
                self.maps.stop()
        summed(totals)
        summed_gradients(self.parameters)
        phase = self.recipe.phase(step)
        figures = dict(zip(("loss", "attention", "preserve"), totals.tolist(), strict=True))
        figures |= {f"diffusion.{n}": float(loss) for n, loss in enumerate(losses)}
        return figures | ({"worst": float(worst(losses))} if phase.reduce == "max" else {})

    def _backward(self, step: int, momentum: Momentum | None) -> tuple[Tensor, Tensor]:
        """This process's part of (loss, attention, preserve), and L_diff of all samples."""
        phase = self.recipe.phase(step)
        number, processes = process()
        parts = self._micro_batches()
        with self.backbone.present("vae"):
            batches = [self.inputs.batch(step, images, phase) for images in parts[number::processes]]
        prompts = Prompts(self.backbone, self.text)
        outcomes: Iterable[Outcome] = (self.forward(batch, prompts.read) for batch in batches)
        known = torch.zeros(self.count, device=self.backbone.device)  # where nothing is selected, none is asked for
        if len(parts) <= processes:
            outcomes = list(outcomes)
            known = self._sample_losses(outcomes)
        elif phase.selects:
            with torch.no_grad():
                known = self._sample_losses(self.forward(batch, prompts.read) for batch in batches)
        totals = torch.zeros(3, device=self.backbone.device)

        def back_propagated(outcome: Outcome) -> Outcome:
            totals.add_(self._backpropagate(outcome, known, phase, momentum))
            return outcome

        losses = self._sample_losses(map(back_propagated, outcomes))
        prompts.backward()
        return totals, losses

    def _image_weights(self, images: Sequence[int], weights: Tensor) -> Tensor:
        """How much each image counts: its sample's weight over the sample's number of images."""
        return torch.stack([weights[self.samples[i]] / self.counts[self.samples[i]] for i in images])

    def _backpropagate(self, outcome: Outcome, losses: Tensor, phase: Phase, momentum: Momentum | None) -> Tensor:
        """Back-propagate this micro-batch's part of the loss; its (loss, attention, preserve)."""
        images = outcome.batch.images
        attention = preserve = losses.new_zeros(())
        total = (outcome.diffusion * self._image_weights(images, diffusion_weights(losses, phase.reduce))).sum()
        if outcome.attention is not None and phase.attention is not None:
            even = torch.full_like(losses, 1 / self.count)
            attention = (outcome.attention * self._image_weights(images, even)).sum()
            area = self.area if self.recipe.masked == "mask" else 1.0
            total = total + phase.attention.weight / area * attention
        if phase.preserve is not None and momentum is not None:
            preserve = self._preserved(outcome, self._image_weights(images, preserve_weights(losses)), momentum)
            total = total + phase.preserve.weight * preserve
        self.scaled(total).backward()  # type: ignore[no-untyped-call]
        return torch.stack([total, attention, preserve]).detach()
