"""Attention maps of pseudo-words: explicit probabilities in a few layers, fused attention everywhere else."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0, JointAttnProcessor2_0
from torch import Tensor, nn

from magictailor.backbones.contract import Condition


def word_weights(condition: Condition, attend: Sequence[Sequence[str]], length: int, device: torch.device) -> Tensor:
    """The share of each position of the sequence in a word's map, [N, n, length]: 1 / m at the m positions of its span."""
    weights = torch.zeros(len(attend), max(map(len, attend)), length)
    for row, words in enumerate(attend):
        for number, word in enumerate(words):
            span = list(condition.spans[row][word])
            weights[row, number, span] = 1 / len(span)
    return weights.to(device)


def read_maps(query: Tensor, key: Tensor, scale: float, weights: Tensor) -> Tensor:
    """Maps of n words, mean over heads, [N, n, queries]: softmax over all keys, then the words' columns.

    ``query`` [N, heads, queries, d] and ``key`` [N, heads, keys, d] after norms and position encoding; ``weights``
    [N, n, L], where the L positions of the text are the last of the keys.
    """
    with torch.autocast(query.device.type, enabled=False):  # large logits overflow in half precision
        probabilities = (query.float() * scale @ key.float().transpose(-1, -2)).softmax(-1)
        of_text = probabilities[..., -weights.shape[-1] :]
        return torch.einsum("nhql,nkl->nkq", of_text, weights) / query.shape[1]


class AttentionReader:
    """Reads maps in the given layers (each with a ``processor``) until `close` puts their own processors back."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self._weights: Tensor | None = None
        self._maps: list[Tensor] | None = None
        self._replaced = [(layer, layer.processor) for layer in layers]
        for layer, processor in self._replaced:
            joint = isinstance(processor, JointAttnProcessor2_0)
            layer.set_processor(_JointReading(self) if joint else _CrossReading(self))

    def close(self) -> None:
        for layer, processor in self._replaced:
            layer.set_processor(processor)

    @contextmanager
    def reading(self, weights: Tensor) -> Iterator[list[Tensor]]:
        """Inside, one forward pass adds a map [N, n, queries] per layer to the list; elsewhere nothing is read."""
        self._weights, self._maps = weights, []
        try:
            yield self._maps
        finally:
            self._weights = self._maps = None

    def reading_again(self) -> AbstractContextManager[Any]:
        """Inside, everything is read that is being read now.

        Gradient checkpointing runs a layer again in the backward pass and needs the same computation; its maps are
        thrown away, as their graphs would hold the memory that checkpointing saves.
        """
        return nullcontext() if self._weights is None else self.reading(self._weights)

    @property
    def active(self) -> bool:
        return self._weights is not None

    # Compiled, what is computed but not kept would be left out, and checkpointing would miss it.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def read(self, query: Tensor, key: Tensor, scale: float) -> None:
        assert self._weights is not None
        assert self._maps is not None
        self._maps.append(read_maps(query, key, scale, self._weights))


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:-1], heads, -1).transpose(1, 2)


class _CrossReading(AttnProcessor2_0):  # type: ignore[misc]
    """Cross-attention: image queries, text keys."""

    def __init__(self, reader: AttentionReader) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reader = reader

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        if encoder_hidden_states is not None and self._reader.active:
            query, key = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states)
            self._reader.read(_heads(query, attn.heads), _heads(key, attn.heads), attn.scale)
        out: Tensor = super().__call__(attn, hidden_states, encoder_hidden_states, *args, **kwargs)  # type: ignore[no-untyped-call]
        return out


class _JointReading(JointAttnProcessor2_0):  # type: ignore[misc]
    """Joint attention: image queries, keys of image and text in one row; the text's positions come last."""

    def __init__(self, reader: AttentionReader) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reader = reader

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        if encoder_hidden_states is not None and self._reader.active:
            query, key = (_heads(layer(hidden_states), attn.heads) for layer in (attn.to_q, attn.to_k))
            text = _heads(attn.add_k_proj(encoder_hidden_states), attn.heads)
            normed = _normed(attn.norm_q, query), _normed(attn.norm_k, key), _normed(attn.norm_added_k, text)
            self._reader.read(normed[0], torch.cat(normed[1:], 2), normed[0].shape[-1] ** -0.5)
        return super().__call__(attn, hidden_states, encoder_hidden_states, *args, **kwargs)  # type: ignore[no-untyped-call]


def _normed(norm: nn.Module | None, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)
