"""The optimizers of both trainings: Muon for matrices and convolution kernels, AdamW for the rest."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

MUON_LR = 10.0  # factor to AdamW's: Muon's steps have unit spectral norm
SMALLEST = 16  # fewest rows and columns of a matrix for Muon


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest matrices [B, rows, columns] with singular values near 1; five Newton-Schulz steps (Jordan 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x if x.device.type == "cpu" else x.bfloat16()  # which most CPUs emulate
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised steps, for parameters of two or more dimensions (rows first)."""

    def __init__(self, parameters: Sequence[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows = parameter.shape[0]
                    by_shape[rows, parameter.numel() // rows].append(parameter)
            for (rows, columns), parameters in by_shape.items():
                self._step_shape(parameters, rows, columns, group["lr"], group["momentum"])

    def _step_shape(self, parameters: list[Tensor], rows: int, columns: int, lr: float, momentum: float) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        buffers = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            buffers.append(state["momentum"])
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        ahead = torch._foreach_add(gradients, buffers, alpha=momentum)  # Nesterov's
        steps = orthogonalise(torch.stack([g.reshape(rows, columns) for g in ahead]))
        scale = lr * max(1.0, rows / columns) ** 0.5
        shaped = [step.reshape(parameter.shape) for parameter, step in zip(parameters, steps.unbind(0), strict=True)]
        torch._foreach_add_(parameters, shaped, alpha=-scale)


def is_matrix(parameter: Tensor) -> bool:
    """Whether Muon trains it: a linear map or a convolution kernel with enough rows and columns."""
    rows = parameter.shape[0] if parameter.ndim else 0
    return parameter.ndim >= 2 and min(rows, parameter.numel() // rows) >= SMALLEST


def new_optimizers(
    matrices: Sequence[Tensor], others: Sequence[Tensor], lr: float
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Optimisers with their learning rates."""
    optimizers: list[tuple[torch.optim.Optimizer, float]] = []
    if matrices:
        optimizers.append((Muon(matrices, lr * MUON_LR), lr * MUON_LR))
    if others:
        fused = others[0].device.type in ("cpu", "cuda")
        optimizers.append((torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.99), weight_decay=0.0, fused=fused), lr))
    return optimizers
