"""Attention maps of pseudo-words: explicit probabilities in a few layers, fused attention everywhere else."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from magictailor.backbones.conditions import Condition
from magictailor.backbones.contract import Keys
from magictailor.common.tensors import to_device


@dataclass(frozen=True)
class Layout:
    """Where a layer has the image among its queries, and the text among its keys."""

    image: slice
    text: slice


MANY_SCORES = 2**26  # 0.25 GB in float32
CROSS_ATTENTION = Layout(slice(None), slice(None))


@dataclass(frozen=True)
class MapRequest:
    """The maps of one forward pass: the share of each position of the text in a word's map, [N, n, L], and the layout."""

    weights: Tensor
    layout: Layout


def word_weights(condition: Condition, attend: Sequence[Sequence[str]], length: int, device: torch.device) -> Tensor:
    """The share of each position of the sequence in a word's map, [N, n, length]: 1 / m at the m positions of its span."""
    weights = torch.zeros(len(attend), max(map(len, attend)), length)
    for row, words in enumerate(attend):
        for number, word in enumerate(words):
            span = list(condition.spans[row][word])
            weights[row, number, span] = 1 / len(span)
    return to_device(weights, device)


def read_maps(
    query: Tensor, key: Tensor, scale: float, request: MapRequest, mask: Tensor | None = None, over: Keys = "all"
) -> Tensor:
    """Maps of n words, mean over heads, [N, n, image queries]: softmax over the keys, then the words' columns.

    Args:
        query: [N, heads, queries, d], after norms and position encoding; ``key`` [N, heads, keys, d] likewise.
        mask: [N or 1, heads or 1, queries or 1, keys], booleans (false: not attended to) or numbers to add.
        over: the softmax is over all keys, or only over those of the text.
    """
    image, heads = query[:, :, request.layout.image], query.shape[1]
    if mask is not None and mask.shape[-2] > 1:
        mask = mask[..., request.layout.image, :]

    def summed(image: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
        """The sum over these heads."""
        with torch.autocast(image.device.type, enabled=False):  # large logits overflow in half precision
            scores = image.float() * scale @ key.float().transpose(-1, -2)
            if mask is not None:
                scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
            text = request.layout.text
            of_text = scores[..., text].softmax(-1) if over == "text" else scores.softmax(-1)[..., text]
            return torch.einsum("nhql,nkl->nkq", of_text[..., : request.weights.shape[-1]], request.weights)

    if image.shape[:3].numel() * key.shape[2] <= MANY_SCORES:
        return summed(image, key, mask) / heads
    total = torch.zeros((), device=query.device)
    for head in range(heads):  # kept for the backward pass, all scores of a large image would be its peak
        one = slice(head, head + 1)
        own = mask[:, one] if mask is not None and mask.shape[1] > 1 else mask
        total = total + checkpoint(summed, image[:, one], key[:, one], own, use_reentrant=False)
    return total / heads


class AttentionReader:
    """Reads maps in the given layers (each with a ``processor``) until `close` puts their own processors back."""

    def __init__(self, layers: Sequence[Any], over: Keys = "all") -> None:
        self._over: Keys = over
        self._request: MapRequest | None = None
        self._maps: list[Tensor] | None = None
        self._replaced = [(layer, layer.processor) for layer in layers]
        for layer, processor in self._replaced:
            layer.set_processor(_reading(processor, self))

    def close(self) -> None:
        for layer, processor in self._replaced:
            layer.set_processor(processor)

    @contextmanager
    def reading(self, request: MapRequest) -> Iterator[list[Tensor]]:
        """Inside, one forward pass adds a map [N, n, queries] per layer to the list; elsewhere nothing is read."""
        self._request, self._maps = request, []
        try:
            yield self._maps
        finally:
            self._request = self._maps = None

    def reading_again(self) -> AbstractContextManager[Any]:
        """Inside, everything is read that is being read now.

        Gradient checkpointing runs a layer again in the backward pass and needs the same computation; its maps are
        thrown away, as their graphs would hold the memory that checkpointing saves.
        """
        return nullcontext() if self._request is None else self.reading(self._request)

    @property
    def active(self) -> bool:
        return self._request is not None

    def read(self, query: Tensor, key: Tensor, scale: float, mask: Tensor | None) -> None:
        assert self._request is not None
        assert self._maps is not None
        self._maps.append(read_maps(query, key, scale, self._request, mask, self._over))


class _Watching(TorchFunctionMode):
    """Inside, fused attention gives its query and key to the reader; what it computes stays the same."""

    def __init__(self, reader: AttentionReader) -> None:
        super().__init__()
        self._reader = reader

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            self._read(*args, **kwargs)
        return func(*args, **kwargs)

    def _read(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any,
        scale: float | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        self._reader.read(query, key, query.shape[-1] ** -0.5 if scale is None else scale, attn_mask)


def _reading(processor: Any, reader: AttentionReader) -> Any:
    """The layer's own processor, watched: whatever norms and position encodings it has are in what is read."""

    # Compiled, what is computed but not kept would be left out, and checkpointing would miss it.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def watched(*args: Any, **kwargs: Any) -> Any:
        with _Watching(reader):
            return processor(*args, **kwargs)

    # diffusers passes on only what the signature names.
    @wraps(type(processor).__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return watched(*args, **kwargs) if reader.active else processor(*args, **kwargs)

    return type(f"Reading{type(processor).__name__}", (), {"__call__": call})()
