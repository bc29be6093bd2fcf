"""What a run trains, by name: LoRA weights and pseudo-words' rows. Everything else stays frozen."""

from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from magictailor.backbones.contract import Backbone, WordVectors
from magictailor.errors import InputError
from magictailor.recipe import EmbeddingMatrix, LoRA, PseudoWords, Recipe

LORA, WORDS, MATRIX = "lora", "words", "embedding"


class _HalfLinear(nn.Linear):
    """Computes in its input's precision, with weights that are kept in full."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight.to(input.dtype))


class _HalfConv2d(nn.Conv2d):
    """The same for a convolution."""

    def forward(self, input: Tensor) -> Tensor:
        return conv2d(input, self.weight.to(input.dtype), None, self.stride, self.padding)


def _in_half(factor: nn.Linear | nn.Conv2d) -> nn.Module:
    """The same factor, with the same parameter."""
    half: Any
    if isinstance(factor, nn.Linear):
        half = _HalfLinear(factor.in_features, factor.out_features, bias=False, device="meta")
    else:
        sizes: Any = {"kernel_size": factor.kernel_size, "stride": factor.stride, "padding": factor.padding}
        half = _HalfConv2d(factor.in_channels, factor.out_channels, bias=False, device="meta", **sizes)
    half.weight = factor.weight
    return half


def _compute_in_half(denoiser: nn.Module) -> None:
    """peft raises a layer's input to its weights' precision, and each raised copy would be kept for the backward pass."""
    for layer in (m for m in denoiser.modules() if isinstance(m, LoraLayer)):
        layer.cast_input_dtype_enabled = False
        for factors in (layer.lora_A, layer.lora_B):
            for name, factor in factors.items():
                factors[name] = _in_half(factor)


def add_lora(backbone: Backbone, how: LoRA, seed: int) -> dict[str, nn.Parameter]:
    """Gaussian A and zero B on the backbone's targets; a new LoRA leaves the output unchanged."""
    config = LoraConfig(
        r=how.rank,
        lora_alpha=how.alpha or how.rank,
        init_lora_weights="gaussian",
        target_modules=list(backbone.lora_targets),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser: Any = backbone.denoiser
        denoiser.add_adapter(config)
    added = {n: p for n, p in backbone.denoiser.named_parameters() if p.requires_grad}
    for parameter in added.values():
        parameter.data = parameter.data.float()
    if backbone.place.dtype != torch.float32:
        _compute_in_half(backbone.denoiser)
    return added


class _WordRows:
    """A forward hook of a token embedding: rows from ``first`` on come from trained parameters."""

    def __init__(self, first: int, rows: list[nn.Parameter]) -> None:
        self.first, self.rows = first, rows

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        ids = inputs[0]
        trained = ids >= self.first
        rows = torch.cat(tuple(self.rows)).to(output.dtype)
        return output.masked_scatter(trained[..., None], rows[ids[trained] - self.first])


def add_rows(backbone: Backbone, starts: Mapping[str, WordVectors]) -> dict[str, nn.Parameter]:
    """A parameter [1, dim] for each pseudo-word and encoder, ``word.encoder``; read in place of its frozen row."""
    parameters = {}
    for name, encoder in backbone.text_encoders.items():
        table: Any = encoder.get_input_embeddings()  # type: ignore[operator]
        rows = [
            nn.Parameter(vectors[name].to(backbone.device, torch.float32, copy=True)) for vectors in starts.values()
        ]
        table.register_forward_hook(_WordRows(len(table.weight) - len(rows), rows))
        parameters.update({f"{word}.{name}": row for word, row in zip(starts, rows, strict=True)})
    return parameters


def _matrices(backbone: Backbone) -> dict[str, nn.Parameter]:
    tables = {n: e.get_input_embeddings().weight for n, e in backbone.text_encoders.items()}  # type: ignore[operator]
    for weight in tables.values():
        weight.requires_grad_(True)
    return tables


class Trainables:
    """The trained parameters of a run, in a fixed order."""

    def __init__(self, backbone: Backbone, recipe: Recipe, starts: Mapping[str, WordVectors]) -> None:
        self.lora: dict[str, nn.Parameter] = {}
        self.words: dict[str, nn.Parameter] = {}
        self.matrices: dict[str, nn.Parameter] = {}
        self.word_rate = 1.0
        for part in recipe.train:
            match part:
                case LoRA():
                    self.lora = add_lora(backbone, part, recipe.seed)
                case PseudoWords():
                    self.words, self.word_rate = add_rows(backbone, starts), part.rate
                case EmbeddingMatrix():
                    if backbone.place.precision != "fp32":
                        raise InputError(
                            f"--precision {backbone.place.precision}: --method {recipe.method} trains the embedding matrix "
                            "itself, which half precision would not let move; add --precision fp32"
                        )
                    self.matrices = _matrices(backbone)

    def named(self) -> dict[str, nn.Parameter]:
        parts = {LORA: self.lora, WORDS: self.words, MATRIX: self.matrices}
        return {f"{kind}.{name}": p for kind, named in parts.items() for name, p in named.items()}

    def parameters(self) -> list[nn.Parameter]:
        return list(self.named().values())

    def groups(self) -> list[dict[str, Any]]:
        """An optimizer's groups, in the order of `named`; ``scale`` times the phase's rate is a group's own."""
        scaled = ((self.lora, 1.0), (self.words, self.word_rate), (self.matrices, 1.0))
        return [{"params": list(named.values()), "scale": scale} for named, scale in scaled if named]

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self.named().items():
            parameter.copy_(tensors[name])
