"""The denoiser as CUDA graphs, to see what launching its kernels costs: a replay launches all of them at once.

A try for `card.py`, and no part of the package: a graph has fixed shapes and addresses, one forward pass between two backward
passes, and no checkpointing.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from magictailor.backbones.attention import MapRequest


class _Call(nn.Module):
    """The denoiser of tensors alone: its inputs, and the words' weights if attention maps are read."""

    def __init__(self, backbone: Any, names: list[str], request: MapRequest | None) -> None:
        super().__init__()
        self.denoiser, self.reader, self.names, self.request = backbone.denoiser, backbone._reader, names, request

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = dict(zip(self.names, tensors, strict=False))
        if self.request is None:
            return (self.denoiser(**inputs).sample,)
        self.reader._request, self.reader._maps = MapRequest(tensors[-1], self.request.layout), []
        return self.denoiser(**inputs).sample, torch.stack(self.reader._maps)


class Graphed:
    """Takes the place of a backbone's ``_denoise``; captures a graph the first time that it sees a shape."""

    def __init__(self, backbone: Any) -> None:
        self.backbone, self.eager, self.graphs = backbone, backbone._denoise, dict[Any, Any]()

    def __call__(self, weights: Mapping[str, Tensor] | None, inputs: dict[str, Tensor], noisy: Tensor) -> Tensor:
        reader = self.backbone._reader
        request = reader._request if reader is not None and reader.active else None
        key = (tuple(tensor.shape for tensor in inputs.values()), request is not None, weights is not None)
        if weights is not None:
            sample = self._replayed(key, weights, inputs)
        elif torch.is_grad_enabled():
            sample = self._called(key, inputs, request)
        else:
            return self.eager(weights, inputs, noisy)
        return self.backbone._output(sample, noisy).float()

    def _called(self, key: Any, inputs: dict[str, Tensor], request: MapRequest | None) -> Tensor:
        """Forward and backward pass as graphs."""
        tensors = [*inputs.values(), *([] if request is None else [request.weights])]
        reader = self.backbone._reader
        if key not in self.graphs:
            maps, alike = reader and reader._maps, [t.detach().clone().requires_grad_(t.requires_grad) for t in tensors]
            call = _Call(self.backbone, list(inputs), request)
            self.graphs[key] = torch.cuda.make_graphed_callables(call, tuple(alike), allow_unused_input=True)
            if request is not None:
                reader._maps, reader._request = maps, request
        sample, *maps = self.graphs[key](*tensors)
        if request is not None:
            reader._maps.extend(maps[0].unbind())
        return sample

    def _replayed(self, key: Any, weights: Mapping[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
        """The momentum network's forward pass as a graph."""
        if key not in self.graphs:
            static = {name: tensor.detach().clone() for name, tensor in inputs.items()}

            def run() -> Tensor:
                return functional_call(self.backbone.denoiser, dict(weights), (), static, tie_weights=False).sample

            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                run()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = run()
            self.graphs[key] = graph, static, out
        graph, static, out = self.graphs[key]
        torch._foreach_copy_(list(static.values()), [tensor.detach() for tensor in inputs.values()])
        graph.replay()
        return out
