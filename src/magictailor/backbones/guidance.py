"""Emphasis of components: where they are, guidance leads away from the prompt without them, and elsewhere towards it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from magictailor.backbones.contract import Backbone
from magictailor.common.errors import InputError

AREA = 0.3  # of the image: where the predictions with and without the components differ most


def most_different(first: Tensor, second: Tensor, area: float = AREA) -> Tensor:
    """1 in the ``area`` of each image where two predictions [N, C, h, w] differ most, else 0, [N, 1, h, w].

    Differences are averaged over channels and 3 x 3 positions. A threshold at a quantile is how SEGA (Brack et al., NeurIPS
    2023) finds where an edit belongs; it needs no attention maps.
    """
    difference = (first - second).float().abs().mean(1, keepdim=True)
    smooth = F.avg_pool2d(F.pad(difference, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    threshold = smooth.flatten(1).quantile(1 - area, dim=1)
    return (smooth >= threshold.view(-1, 1, 1, 1)).to(first.dtype)


class Guided(Backbone):
    """A backbone whose pipeline has guidance of one kind or another."""

    negative = True  # guidance is classifier-free, and not an input of the denoiser
    no_guidance = 1.0  # the guidance that changes nothing
    emphasizes = False  # its pipeline denoises with empty prompts and with prompts in one batch, in this order

    def guidance_inputs(self, guidance: float) -> dict[str, Any]:
        return {"guidance_scale": guidance}

    def _text_inputs(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """The arguments of the denoiser's forward that encoded prompts give."""
        raise NotImplementedError

    def check_emphasis(self, guidance: float) -> None:
        problem = None
        if not self.emphasizes:
            problem = f"{self.family} does not denoise with and without the prompt at once, which this needs"
        elif guidance <= self.no_guidance:
            problem = f"has no effect with guidance {guidance:g}"
        if problem:
            raise InputError(problem, "leave it out", field="emphasis")

    @contextmanager
    def emphasizing(self, without: Sequence[str], strength: float) -> Iterator[None]:
        if not strength or not any(without):
            yield
            return
        encoded = self.encode_text(list(without)).tensors
        dtype = self.runtime.dtype
        texts = self._text_inputs({k: v.to(dtype) if v.is_floating_point() else v for k, v in encoded.items()})
        shares = torch.tensor([strength * bool(text) for text in without], device=self.device).view(-1, 1, 1, 1)

        def emphasize(denoiser: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
            empty, full = output[0].chunk(2)
            rows = len(output[0])
            inputs = _merged(_second_half(kwargs, rows), texts)
            other = denoiser.forward(*_second_half(args, rows), **inputs)[0]  # type: ignore[operator]
            share, inside = shares.to(empty.dtype), most_different(full, other)
            outside = share.clamp(max=1) * (1 - inside)  # the concept's other parts and the background stay as they are
            empty, full = torch.lerp(empty, other, share * inside), torch.lerp(full, other, outside)
            return (torch.cat([empty, full]), *output[1:])

        hook = self.denoiser.register_forward_hook(emphasize, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()


def _second_half(value: Any, rows: int) -> Any:
    """The second half of each tensor that has so many rows, in arguments of any depth."""
    if isinstance(value, Tensor):
        return value[rows // 2 :] if value.ndim and len(value) == rows else value
    if isinstance(value, dict):
        return {name: _second_half(inner, rows) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_second_half(inner, rows) for inner in value)
    return value


def _merged(inputs: dict[str, Any], texts: dict[str, Any]) -> dict[str, Any]:
    """Arguments with those of other texts, also inside dictionaries."""
    nested = {
        k: {**inputs[k], **v} for k, v in texts.items() if isinstance(v, dict) and isinstance(inputs.get(k), dict)
    }
    return {**inputs, **texts, **nested}
