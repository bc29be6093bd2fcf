"""What a picture's IP-Adapter has to add: what the words of its treatment change in the layers that read captions."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention


def readers(unet: Any) -> list[Any]:
    """The layers that read captions, in the order in which an IP-Adapter's file numbers them."""
    names = (name.removesuffix(".processor") for name in unet.attn_processors if ".attn2." in name)
    return [unet.get_submodule(name) for name in names]


def attended(attention: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The layer's output for these, without its bias. [N, length, channels] each."""
    query, key, value = (x.reshape(*x.shape[:2], attention.heads, -1).transpose(1, 2) for x in (query, key, value))
    together = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return linear(together, attention.to_out[0].weight)


class Teacher:
    """The frozen base, which knows treatments by name. It keeps the queries of the last forward pass."""

    def __init__(self, unet: Any) -> None:
        self.layers, self._queries = readers(unet), dict[Any, Tensor]()
        for attention in self.layers:
            attention.to_q.register_forward_hook(self._keep)

    def _keep(self, to_q: Any, inputs: Any, output: Tensor) -> None:
        self._queries[to_q] = output.float()

    def error(self, tokens: Tensor, plain: Tensor, named: Tensor) -> Tensor:
        """How far the pictures' ``tokens`` [N, n, width] are from doing in each layer what the treatment's name does.

        The squared error, relative to what the name changes; the mean over layers. It is 1 for an adapter that adds
        nothing. ``plain`` and ``named``: the encoded captions without and with the treatment, [N, length, width].
        """
        errors = []
        for attention in self.layers:
            query = self._queries.pop(attention.to_q)
            with torch.no_grad():
                with_name, without = (
                    attended(attention, query, attention.to_k(text), attention.to_v(text)) for text in (named, plain)
                )
                wanted = with_name - without
            own = attention.processor
            added = attended(attention, query, own.to_k_ip[0](tokens), own.to_v_ip[0](tokens))
            errors.append((added - wanted).square().mean() / wanted.square().mean().clamp(min=1e-12))
        return torch.stack(errors).mean()
