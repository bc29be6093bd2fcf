"""Encoded prompts, and what a denoiser predicts under them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from magictailor.common.errors import InputError


@dataclass(frozen=True)
class Condition:
    """N encoded prompts.

    Attributes:
        tensors: what the denoiser reads, by name, [N, ...]: sequences, pooled vectors, masks, sizes.
        spans: for each prompt, the positions of each pseudo-word's tokens in the sequence that the denoiser attends to.
    """

    tensors: Mapping[str, Tensor]
    spans: Sequence[Mapping[str, Sequence[int]]] = ()

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def pick(self, rows: Sequence[int]) -> "Condition":
        """The condition of these prompts, in this order (a prompt may be taken more than once)."""
        index = list(rows)
        return Condition({k: v[index] for k, v in self.tensors.items()}, [self.spans[i] for i in index])

    def select(self, rows: Tensor) -> "Condition":
        """The same by a tensor of row numbers, without gradients or spans."""
        return Condition({k: v.detach()[rows] for k, v in self.tensors.items()})

    def detach(self) -> "Condition":
        return Condition({k: v.detach() for k, v in self.tensors.items()}, self.spans)

    def leaf(self, learned: bool = True) -> "Condition":
        """The same values, cut from the encoders: what forward passes read, and, if something in the encoders is
        learned, where their gradients accumulate."""
        cut = self.detach()
        for tensor in cut.tensors.values():
            tensor.requires_grad_(learned and tensor.is_floating_point())
        return cut

    def backward(self, leaf: "Condition") -> None:
        """Propagate the gradients of ``leaf`` into the encoders and the pseudo-words."""
        pairs = [
            (ours, gradient)
            for name, ours in self.tensors.items()
            if ours.requires_grad and (gradient := leaf.tensors[name].grad) is not None
        ]
        if pairs:
            torch.autograd.backward([ours for ours, _ in pairs], [gradient for _, gradient in pairs])


def cut_off(word: str, fix: str, *, field: str = "") -> InputError:
    """For a pseudo-word without a span: its prompt is so long that the text encoder does not read it."""
    return InputError(f"{word} comes after the text encoder's last token", fix, field=field)


@dataclass(frozen=True)
class Prediction:
    """``output``: of the denoiser, float32, in the latents' shape. ``attention``: the maps asked for, [N, n, h, w]."""

    output: Tensor
    attention: Tensor | None = None
