"""The passes of a step as one CUDA graph: the launches of a small network's kernels take longer than the kernels."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UP = 3  # steps before the capture, in which libraries choose their kernels


class Graph:
    """Records ``passes`` once, a forward and a backward pass; a call then runs it on new inputs of the same shapes.

    ``passes`` begins with no gradients, so that the graph makes them instead of adding to them. They stay in place and
    are overwritten by each call, as is the result; nobody may take them away.
    """

    def __init__(self, passes: Callable[..., Tensor], example: Sequence[Tensor]) -> None:
        self.inputs = [tensor.clone() for tensor in example]
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                passes(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.result = passes(*self.inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        return self.result
