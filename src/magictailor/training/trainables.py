"""What a run trains, by name: LoRA, rows of pseudo-words, or weights of the base itself. Everything else stays frozen."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from magictailor.backbones.contract import Backbone, WordVectors
from magictailor.common.errors import InputError
from magictailor.recipe import (
    CrossAttentionWeights,
    Denoiser,
    EmbeddingMatrix,
    Kind,
    LoRA,
    Phase,
    PseudoWords,
    Recipe,
    TextEncoder,
    Trainable,
)

LORA, WORDS, MATRIX, DENOISER, TEXT = "lora", "words", "embedding", "denoiser", "text"
OWN_WEIGHTS = {"cross-attention", "denoiser", "text-encoder"}  # kinds that change the base's own weights
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")  # of attention
PREFIXES: dict[Kind, str] = {
    "lora": LORA,
    "pseudo-words": WORDS,
    "embedding-matrix": MATRIX,
    "cross-attention": DENOISER,
    "denoiser": DENOISER,
    "text-encoder": TEXT,
}


class _HalfLinear(nn.Linear):
    """Computes in its input's precision, with weights in float32."""

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
    """peft converts a layer's input to its weights' precision, and would keep each copy for the backward pass."""
    for layer in (m for m in denoiser.modules() if isinstance(m, LoraLayer)):
        layer.cast_input_dtype_enabled = False
        for factors in (layer.lora_A, layer.lora_B):
            for name, factor in factors.items():
                factors[name] = _in_half(factor)


def add_lora(backbone: Backbone, lora: LoRA, seed: int) -> dict[str, nn.Parameter]:
    """Gaussian A and zero B on the backbone's targets; a new LoRA leaves the output unchanged."""
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha or lora.rank,
        init_lora_weights="gaussian",
        target_modules=[t for t in backbone.lora_targets if lora.layers == "all" or t in PROJECTIONS],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser: Any = backbone.denoiser
        denoiser.add_adapter(config)
    added = {n: p for n, p in backbone.denoiser.named_parameters() if p.requires_grad}
    for parameter in added.values():
        parameter.data = parameter.data.float()
    if backbone.runtime.dtype != torch.float32:
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


def _own_weights(backbone: Backbone, named: Iterable[tuple[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    """These weights of the base, trained from now on: kept in float32, computed with in the base's precision."""
    chosen = dict(named)
    for parameter in chosen.values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    backbone.autocast = backbone.runtime.dtype != torch.float32
    return chosen


def cross_attention(backbone: Backbone, layers: Iterable[str]) -> dict[str, nn.Parameter]:
    """The weights (and biases) of these projections of the denoiser's cross-attention, by their own names."""
    ends = tuple(f"attn2.{layer}.{name}" for layer in layers for name in ("weight", "bias"))
    return {n: p for n, p in backbone.denoiser.named_parameters() if n.endswith(ends)}


def _text_weights(backbone: Backbone) -> dict[str, nn.Parameter]:
    """All weights of the text encoders except their token embeddings."""
    tables = {id(e.get_input_embeddings().weight) for e in backbone.text_encoders.values()}  # type: ignore[operator]
    networks = backbone.text_encoders.items()
    return {f"{e}.{n}": p for e, network in networks for n, p in network.named_parameters() if id(p) not in tables}


def _matrices(backbone: Backbone) -> dict[str, nn.Parameter]:
    tables = {n: e.get_input_embeddings().weight for n, e in backbone.text_encoders.items()}  # type: ignore[operator]
    for weight in tables.values():
        weight.requires_grad_(True)
    return tables


def _refuse(backbone: Backbone, recipe: Recipe) -> None:
    """What this base does not have, and what half precision or bits are too coarse for."""
    precision, preset = backbone.runtime.precision, backbone.runtime.preset
    if unknown := sorted(recipe.kinds - backbone.trainable):
        raise InputError(
            f"{recipe.method}: trains {' and '.join(unknown)}, which is not possible on {backbone.family}",
            "choose magictailor, dreambooth or plain-lora",
            field="method",
        )
    if "embedding-matrix" in recipe.kinds and precision != "fp32":
        raise InputError(
            f"{precision}: method {recipe.method} trains the embedding matrix itself", "choose fp32", field="precision"
        )
    if preset.offload and recipe.kinds & {"text-encoder", "embedding-matrix"}:
        raise InputError(
            f"{preset.name}: keeps text encoders off the device, and method {recipe.method} trains them",
            "choose a larger one, for instance 24gb",
            field="preset",
        )
    if backbone.runtime.bits and recipe.kinds & {"cross-attention", "denoiser"}:
        raise InputError(
            f"{precision}: method {recipe.method} trains the denoiser's own weights", "choose bf16", field="precision"
        )


class Trainables:
    """The trained parameters of a run by kind, in a fixed order. ``seed``: of the LoRA's initial values; None: the recipe's."""

    def __init__(
        self, backbone: Backbone, recipe: Recipe, starts: Mapping[str, WordVectors], seed: int | None = None
    ) -> None:
        _refuse(backbone, recipe)
        seed = recipe.seed if seed is None else seed
        self.parts = {part.kind: self._added(part, backbone, seed, starts) for part in recipe.train}
        self.word_lr_scale = next((part.lr_scale for part in recipe.train if isinstance(part, PseudoWords)), 1.0)
        self._active: tuple[Kind, ...] = tuple(self.parts)

    @staticmethod
    def _added(
        part: Trainable, backbone: Backbone, seed: int, starts: Mapping[str, WordVectors]
    ) -> dict[str, nn.Parameter]:
        match part:
            case LoRA():
                return add_lora(backbone, part, seed)
            case PseudoWords():
                return add_rows(backbone, starts)
            case EmbeddingMatrix():
                return _matrices(backbone)
            case CrossAttentionWeights():
                return _own_weights(backbone, cross_attention(backbone, part.layers).items())
            case Denoiser():
                return _own_weights(backbone, backbone.denoiser.named_parameters())
            case TextEncoder():
                return _own_weights(backbone, _text_weights(backbone).items())

    def _of(self, prefix: str) -> dict[str, nn.Parameter]:
        return {n: p for kind, named in self.parts.items() if PREFIXES[kind] == prefix for n, p in named.items()}

    @property
    def lora(self) -> dict[str, nn.Parameter]:
        return self._of(LORA)

    @property
    def words(self) -> dict[str, nn.Parameter]:
        return self._of(WORDS)

    @property
    def matrices(self) -> dict[str, nn.Parameter]:
        return self._of(MATRIX)

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The base's own weights that are trained: ``denoiser.NAME``, ``text.ENCODER.NAME``."""
        return {f"{prefix}.{n}": p for prefix in (DENOISER, TEXT) for n, p in self._of(prefix).items()}

    @property
    def online(self) -> dict[str, nn.Parameter]:
        """The denoiser's trained parameters by their names in it, of which the momentum network has other values."""
        return self.lora | self._of(DENOISER)

    def named(self) -> dict[str, nn.Parameter]:
        return {f"{PREFIXES[kind]}.{name}": p for kind, named in self.parts.items() for name, p in named.items()}

    def parameters(self) -> list[nn.Parameter]:
        return list(self.named().values())

    def groups(self) -> list[dict[str, Any]]:
        """An optimizer's groups, in the order of `named`; a group's learning rate is ``scale`` times the phase's."""
        return [
            {"params": list(named.values()), "scale": self.word_lr_scale if kind == "pseudo-words" else 1.0}
            for kind, named in self.parts.items()
        ]

    def begin(self, phase: Phase) -> None:
        """Train what this phase trains; the rest keeps its values, without gradients."""
        wanted = tuple(self.parts) if phase.train is None else phase.train
        if wanted == self._active:
            return
        self._active = wanted
        for kind, named in self.parts.items():
            for parameter in named.values():
                parameter.requires_grad_(kind in wanted)
                parameter.grad = None

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self.named().items():
            parameter.copy_(tensors[name])
