"""Reading cross-attention: explicit probabilities in the chosen layers alone, attention itself stays fused."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn


class AttentionMaps:
    """Patches the named layers of ``denoiser``; `record` before a forward, `mean` after it.

    Gradient checkpointing runs a layer again in the backward pass and wants the same computation, so what was
    asked for stays asked until the next `record` or `stop`; what the second run reads is not kept, or its graphs would
    hold what checkpointing lets go of.
    """

    def __init__(self, denoiser: nn.Module, layers: Sequence[str]) -> None:
        self._tokens: Tensor | None = None
        self._maps: list[Tensor] = []
        self._gathers = False
        for name in layers:
            denoiser.get_submodule(name).set_processor(_Reading(self))  # type: ignore[operator]

    def record(self, tokens: Tensor) -> None:
        """From now on gather maps of these tokens: weights [N, n, L], for each image of n words, that add up to 1 for a word."""
        self._tokens, self._maps, self._gathers = tokens, [], True

    def stop(self) -> None:
        """Read nothing more, and let go of what was read and of its graphs."""
        self._tokens, self._maps = None, []

    def mean(self) -> Tensor:
        """The mean over heads and layers, [N, n, h, w], taken once after a forward. Maps are square."""
        maps = torch.stack(self._maps).mean(0)
        self._maps, self._gathers = [], False
        side = int(maps.shape[-1] ** 0.5)
        return maps.reshape(*maps.shape[:2], side, side)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Inside, nothing is read."""
        kept, self._tokens = self._tokens, None
        try:
            yield
        finally:
            self._tokens = kept

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # compiled, what is read but not kept would be left out, and checkpointing would miss it
    def read(self, attn: Any, hidden: Tensor, text: Tensor) -> None:
        if self._tokens is None:
            return
        query, key = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (attn.to_q(hidden), attn.to_k(text)))
        with torch.autocast(hidden.device.type, enabled=False):  # large logits overflow in half
            probabilities = (query.float() * attn.scale @ key.float().transpose(-1, -2)).softmax(-1)
            read = torch.einsum("nhql,nkl->nkq", probabilities, self._tokens) / attn.heads
        if self._gathers:
            self._maps.append(read)


class _Reading(AttnProcessor2_0):  # type: ignore[misc]
    def __init__(self, maps: AttentionMaps) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reader = maps

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        if encoder_hidden_states is not None:
            self._reader.read(attn, hidden_states, encoder_hidden_states)
        out: Tensor = super().__call__(attn, hidden_states, encoder_hidden_states, *args, **kwargs)  # type: ignore[no-untyped-call]
        return out
