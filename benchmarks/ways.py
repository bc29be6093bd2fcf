"""One training step written in several ways, for `step.py`: ours, and the peers that it is compared with.

All compute the same losses from the same batch, and train the same parameters:

    reference           the paper's training script: attention probabilities kept with their graphs in every layer of at most
                        32 x 32 places, a second full U-Net as momentum network with a forward for every image, a text
                        encoding for each image, and AdamW over the whole embedding matrix
    fused               the same with fused attention, which has no maps: without the attention loss, ours too
    dreambooth          diffusers' DreamBooth script for LoRA: an image and a prior image, the plain loss
    textual-inversion   diffusers' Textual Inversion script: four images, the whole embedding matrix in the optimizer, and all
                        other rows put back after each step
"""

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from bases import pair
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image
from torch import Tensor, nn

from magictailor.backbones.stable_diffusion import ENCODER, StableDiffusion
from magictailor.methods import recipe_for
from magictailor.techniques.attention import attention_error
from magictailor.techniques.balancing import diffusion_weights, preserve_weights
from magictailor.techniques.diffusion import masked_error
from magictailor.training.batch import Batch
from magictailor.training.momentum import Momentum
from magictailor.training.rows import Row
from magictailor.training.setup import build
from magictailor.training.step import train_step

LARGEST_MAP, RATE = 32 * 32, 1e-5


class Ours:
    """The product's own step of a method."""

    def __init__(self, backbone: StableDiffusion, settings: Sequence[str] = (), method: str = "magictailor") -> None:
        self.backbone = backbone
        self.recipe = recipe_for(backbone.family, method, settings=settings)
        training = build(pair(backbone.size), self.recipe, backbone)
        self.trained, self.examples, self.objective = training.trained, training.examples, training.objective
        random = torch.Generator().manual_seed(1)
        with torch.no_grad():  # off the zero start, where half of the gradients vanish
            for p in self.trained.lora.values():
                p.add_(0.02 * torch.randn(p.shape, generator=random).to(p.device))
        if self.recipe.loss.prior is not None:
            self._make_priors()
        self.momentum = None if all(p.preserve is None for p in self.recipe.phases) else self._apart()
        self.optimizer = training.state.optimizer
        for group in self.optimizer.param_groups:
            group["lr"] = RATE

    def _make_priors(self) -> None:
        """Noise instead of prior images: what they show makes no difference to a step's time."""
        self._folder = tempfile.TemporaryDirectory()
        file, size = Path(self._folder.name) / "prior.png", self.backbone.size
        Image.effect_noise((size, size), 60).convert("RGB").save(file)
        self.examples.use_priors({self.examples.prior_prompt(word): [file] for word in self.objective.words})

    def _apart(self) -> Momentum:
        """A momentum network that differs from the online one."""
        momentum = Momentum(self.trained.lora)
        with torch.no_grad():
            for weight in momentum.weights.values():
                weight.mul_(0.9)
        return momentum

    def backward(self, step: int) -> dict[str, float]:
        with self.objective.reading_attention():
            losses = train_step(self.objective, step, self.momentum)
        return self.objective.to_numbers(self.recipe.phase(step), losses)

    def gradients(self) -> dict[str, Tensor]:
        return {n: p.grad.clone() for n, p in self.trained.named().items() if p.grad is not None}

    def update(self, step: int) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        preserve = self.recipe.phase(step).preserve
        if preserve is not None and self.momentum is not None:
            self.momentum.after_step(self.trained.lora, preserve)


class Peer:
    """A step written another way, made of an `Ours` with the same tensors."""

    method: str = "magictailor"
    settings: tuple[str, ...] = ()

    def __init__(self, ours: Ours) -> None:
        self.ours, self.backbone, self.recipe = ours, ours.backbone, ours.recipe
        self.unet: Any = self.backbone.denoiser
        self.unet.set_attn_processor(AttnProcessor2_0())
        self.encoder: Any = self.backbone.text_encoders[ENCODER]
        self.matrix: nn.Parameter | None = None
        if ours.trained.words:
            self._train_matrix()
        trained = [*ours.trained.lora.values(), *([] if self.matrix is None else [self.matrix])]
        self.optimizer = torch.optim.AdamW(trained, lr=RATE)

    def _train_matrix(self) -> None:
        """The rows are read from the matrix, which is trained whole."""
        table = self.encoder.get_input_embeddings()
        table._forward_hooks.clear()
        self.matrix = table.weight
        tokenizer = self.backbone.tokenizers[ENCODER]
        self.rows = {w: tokenizer.convert_tokens_to_ids(w) for w in self.ours.objective.words}
        with torch.no_grad():
            for word, number in self.rows.items():
                self.matrix[number] = self.ours.trained.words[f"{word}.{ENCODER}"][0]
        self.matrix.requires_grad_(True)

    def batch(self, step: int) -> tuple[list[Row], Batch]:
        rows = self.ours.examples.rows(step)
        times = self.ours.examples.times(step)
        return rows, self.ours.objective.maker.batch(rows, times, self.recipe.phase(step))

    def predict(self, batch: Batch, text: Tensor, unet: Any = None) -> Tensor:
        out: Tensor = (unet or self.unet)(batch.noisy.to(text.dtype), batch.times, text).sample
        return out.float()

    def gradients(self) -> dict[str, Tensor]:
        lora = {f"lora.{n}": p.grad.clone() for n, p in self.ours.trained.lora.items() if p.grad is not None}
        if self.matrix is None or self.matrix.grad is None:
            return lora
        return lora | {f"words.{w}.{ENCODER}": self.matrix.grad[i : i + 1].clone() for w, i in self.rows.items()}

    def update(self, step: int) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class Keeping:
    """An attention processor that computes explicit probabilities, and keeps those of small maps with their graphs."""

    def __init__(self, kept: list[tuple[bool, Tensor]]) -> None:
        self.kept = kept

    def __call__(
        self, attn: Any, hidden: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        text = encoder_hidden_states
        context = hidden if text is None else text
        query, key, value = (attn.head_to_batch_dim(f(x)) for f, x in ((attn.to_q, hidden), (attn.to_k, context), (attn.to_v, context)))  # fmt: skip
        probabilities = attn.get_attention_scores(query, key)
        if probabilities.shape[1] <= LARGEST_MAP:
            self.kept.append((text is not None, probabilities))
        out: Tensor = attn.to_out[0](attn.batch_to_head_dim(probabilities @ value))
        return out


class Fused(Peer):
    """The reference's structure with torch's fused attention, without the attention loss."""

    settings = ("phases.0.attention=none", "phases.1.attention=none")

    def __init__(self, ours: Ours) -> None:
        super().__init__(ours)
        self.momentum = copy.deepcopy(self.unet).requires_grad_(False)
        assert ours.momentum is not None
        weights = ours.momentum.weights
        with torch.no_grad():
            for name, parameter in self.momentum.named_parameters():
                if name in weights:
                    parameter.copy_(weights[name])

    def attention(self, batch: Batch, rows: Sequence[Row], texts: Any, text: Tensor) -> Tensor | None:
        """The attention loss of each row, if it can be had."""
        return None

    def backward(self, step: int) -> dict[str, float]:
        phase, objective = self.recipe.phase(step), self.ours.objective
        rows, batch = self.batch(step)
        texts = [self.backbone.encode_text([row.prompt], row.words) for row in rows]  # one for each image
        text = torch.cat([t.tensors["sequence"] for t in texts])
        prediction = self.predict(batch, text)
        attention = self.attention(batch, rows, texts, text)
        diffusion = masked_error(prediction - batch.target, batch.mask, self.recipe.loss.masked)
        losses = objective.sample_losses(diffusion, rows)
        total = (losses * diffusion_weights(losses.detach(), phase.reduce)).sum()
        if attention is not None and phase.attention is not None:
            weight = phase.attention.weight / objective.mean_area
            total = total + weight * objective.sample_losses(attention, rows).mean()
        if phase.preserve is not None:
            with torch.no_grad():
                held = self.predict(batch, text, self.momentum)  # for every image
            difference = masked_error(held - prediction, batch.mask, self.recipe.loss.masked)
            means = objective.sample_losses(difference, rows)
            total = total + phase.preserve.weight * (means * preserve_weights(losses.detach())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(total.detach()), **{f"diffusion.{i}": float(v) for i, v in enumerate(losses.detach())}}

    def update(self, step: int) -> None:
        super().update(step)
        if self.recipe.phase(step).preserve is not None:
            with torch.no_grad():
                online = dict(self.unet.named_parameters())
                for name, parameter in self.momentum.named_parameters():  # all of them
                    parameter.lerp_(online[name].to(parameter.dtype), 0.01)


class Reference(Fused):
    """What the paper's script keeps, copies and computes."""

    settings = ()

    def __init__(self, ours: Ours) -> None:
        super().__init__(ours)
        self.kept: list[tuple[bool, Tensor]] = []
        self.kept_by_momentum: list[tuple[bool, Tensor]] = []
        self.momentum.set_attn_processor(Keeping(self.kept_by_momentum))
        self.unet.set_attn_processor(Keeping(self.kept))

    def attention(self, batch: Batch, rows: Sequence[Row], texts: Any, text: Tensor) -> Tensor:
        tokens = torch.zeros(text.shape[:2], device=text.device)
        for number, (t, row) in enumerate(zip(texts, rows, strict=True)):
            (position,) = t.spans[0][row.words[0]]
            tokens[number, position] = 1
        assert batch.map_masks is not None
        return attention_error(self._map(tokens), batch.map_masks[:, 0])

    def _map(self, tokens: Tensor) -> Tensor:
        """The wanted word's map out of everything that was kept."""
        height, width = self.backbone.map_grid("all")
        maps = [p for cross, p in self.kept if cross and p.shape[1] == height * width]
        read = torch.stack([torch.einsum("nhql,nl->nq", p.unflatten(0, (len(tokens), -1)).float(), tokens) / (len(p) / len(tokens)) for p in maps])  # fmt: skip
        return read.mean(0).reshape(len(tokens), height, width)

    def backward(self, step: int) -> dict[str, float]:
        self.kept.clear()  # the momentum network's are never freed, but the next forward's take their names
        self.kept_by_momentum.clear()
        return super().backward(step)


class DreamBoothScript(Peer):
    """diffusers' script: the prompts are encoded in every step; the prior's half of the batch has its own loss."""

    method, settings = "dreambooth", ("loss.masked=off",)

    def backward(self, step: int) -> dict[str, float]:
        rows, batch = self.batch(step)
        with torch.no_grad():
            text = torch.cat([self.backbone.encode_text([row.prompt]).tensors["sequence"] for row in rows])
        own, prior = (self.predict(batch, text) - batch.target).square().chunk(2)
        assert self.recipe.loss.prior is not None
        total = own.mean() + self.recipe.loss.prior.weight * prior.mean()
        total.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(total.detach())}


class TextualInversionScript(Peer):
    """diffusers' script: one plain loss; whatever AdamW did to other rows is undone."""

    method, settings = "textual-inversion", ("loss.masked=off",)

    def __init__(self, ours: Ours) -> None:
        super().__init__(ours)
        assert self.matrix is not None
        self.original = self.matrix.detach().clone()

    def backward(self, step: int) -> dict[str, float]:
        rows, batch = self.batch(step)
        text = torch.cat([self.backbone.encode_text([row.prompt], row.words).tensors["sequence"] for row in rows])
        total = (self.predict(batch, text) - batch.target).square().mean()
        total.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(total.detach())}

    def update(self, step: int) -> None:
        super().update(step)
        assert self.matrix is not None
        others = torch.ones(len(self.matrix), dtype=torch.bool)
        others[list(self.rows.values())] = False
        with torch.no_grad():
            self.matrix[others] = self.original[others]


PEERS: dict[str, type[Peer]] = {
    "reference": Reference,
    "fused": Fused,
    "dreambooth": DreamBoothScript,
    "textual-inversion": TextualInversionScript,
}
